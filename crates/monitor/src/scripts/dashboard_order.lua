-- Gives an order to an instance that lives.
--
-- KEYS[1]  the orders for it (list)    KEYS[2]  its snapshot
-- ARGV[1]  the order    ARGV[2]  how many may wait    ARGV[3]  for how long they wait (ms)
-- Reply    1, 0 when too many wait, -1 when the instance is gone
-- Example  EVALSHA … 2 ns:monitor:dashboard:{fleet}:orders:5f1c… ns:monitor:dashboard:{fleet}:at:5f1c… 9a….{"id":…} 64 30000 → 1
if redis.call('EXISTS', KEYS[2]) == 0 then
  return -1
end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[2]) then
  return 0
end
-- Out of memory, the server refuses a script whose first write may grow.
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
