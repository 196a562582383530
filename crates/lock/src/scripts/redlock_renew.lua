-- Renews a lock on one server, and keeps its fence.
--
-- KEYS[1], KEYS[2]  see `redlock_take.lua`
-- ARGV[1]  token
-- ARGV[2]  time to live (ms)
-- ARGV[3]  time to live of the fence (ms)
-- Reply    1 renewed, 0 the token does not hold the lock
-- Example  EVALSHA … 2 shop:redlock:jobs:{7} shop:redlock:jobs:{7}:fence 9f3a… 30000 86400000 → 1
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
