-- An instance says how it stands, and takes the orders for it.
--
-- KEYS[1]  the instances (sorted set, by the time of the last beat in µs)    KEYS[2]  the instance's snapshot
-- KEYS[3]  the orders for it (list)    KEYS[4]  the mark that somebody is watching
-- ARGV[1]  the instance    ARGV[2]  the snapshot    ARGV[3]  for how long it is believed (ms)
-- ARGV[4]  how many instances are kept at most
-- Reply    {1 when somebody is watching, the server's time (µs), the orders}
-- Example  EVALSHA … 4 ns:monitor:dashboard:{fleet}:instances ns:monitor:dashboard:{fleet}:at:5f1c… … 5f1c… {"id":…} 15000 200
--            → {1, 1764428400000000, {}}
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ttl = tonumber(ARGV[3])
-- Out of memory, the server refuses a script whose first write may grow.
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ttl * 1000))
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[4]))
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('SET', KEYS[2], ARGV[2], 'PX', ttl)
local orders = redis.call('LRANGE', KEYS[3], 0, -1)
if #orders > 0 then
  redis.call('DEL', KEYS[3])
end
return { redis.call('EXISTS', KEYS[4]), string.format('%.0f', now), orders }
