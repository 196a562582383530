-- Writes back the greatest fence that any server gave, for a holder that holds the lock here.
--
-- KEYS[1], KEYS[2]  see `redlock_take.lua`
-- ARGV[1]  token
-- ARGV[2]  fence
-- ARGV[3]  time to live of the fence (ms)
-- Reply    1 no lower fence is given here from now on, 0 the token does not hold the lock
-- Example  EVALSHA … 2 shop:redlock:jobs:{7} shop:redlock:jobs:{7}:fence 9f3a… 1795504826286845
--          86400000 → 1
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if tonumber(redis.call('GET', KEYS[2]) or 0) < tonumber(ARGV[2]) then
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
end
return 1
