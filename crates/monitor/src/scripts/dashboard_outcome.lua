-- Leaves the outcome of an order for its sender, also where the server is out of memory.
--
-- KEYS[1]  the outcome
-- ARGV[1]  the outcome, sealed    ARGV[2]  for how long it is kept (ms)
-- Reply    1
-- Example  EVALSHA … 1 ns:monitor:dashboard:{fleet}:outcome:9a… <sealed> 60000 → 1
-- Out of memory, the server refuses a script whose first write may grow.
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
