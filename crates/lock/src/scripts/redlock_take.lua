-- Takes a lock on one of several independent servers. Repeated with the same token it says the same, and the lock
-- runs on from then.
--
-- KEYS[1]  string: the holder's token
-- KEYS[2]  string: the last fence
-- ARGV[1]  token
-- ARGV[2]  time to live (ms)
-- ARGV[3]  time to live of the fence (ms)
-- Reply    {1, fence}: taken; {0, ms until it runs out}: another holds it
-- Example  EVALSHA … 2 shop:redlock:jobs:{7} shop:redlock:jobs:{7}:fence 9f3a… 30000 86400000
--          → {1, 1795504826286845}
local owner = redis.call('GET', KEYS[1])
local last = tonumber(redis.call('GET', KEYS[2]) or 0)
if owner == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return { 1, last }
elseif owner then
  return { 0, redis.call('PTTL', KEYS[1]) }
end
-- Greater than the last, and, should that be forgotten, than all that were given by a clock.
local fence = math.max(last + 1, now)
redis.call('SET', KEYS[2], string.format('%.0f', fence), 'PX', ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return { 1, fence }
