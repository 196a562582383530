-- Tells every process of a change that was made before, on another node of a cluster.
--
-- KEYS  1 the cache's meta hash
-- ARGV  1 channel of changes
--       2 what has changed: `k` and an entry's key, or `t` and a tag
--       3 a random number, should the hash be new
--       4 ttl of the hash, in milliseconds
-- Reply the change's number
--
-- Example: EVALSHA … 1 cache-meta:p:{p} cache:p:changes kcache:p:{42} 9f3c 86400000  →  7
-- A server without memory refuses a script whose first write may grow.
redis.call('HDEL', KEYS[1], 'x')
if redis.call('HSETNX', KEYS[1], 'i', ARGV[3]) == 1 then
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
local number = redis.call('HINCRBY', KEYS[1], 's', 1)
local payload = redis.call('HGET', KEYS[1], 'i') .. ' ' .. string.format('%.0f', number)
redis.call('PUBLISH', ARGV[1], payload .. ' ' .. ARGV[2])
return number
