-- The position of the cache's invalidation log: how many changes there were. A script, so that never a
-- replica answers, which may be behind; and it makes the log when there is none, so that the next
-- process that asks knows it again.
--
-- KEYS  1 the cache's meta hash
-- ARGV  1 a random number, should the hash be new
--       2 ttl of the hash, in milliseconds: prolonged here
-- Reply {i, s}  incarnation, and the number of the last change
--
-- Example: EVALSHA … 1 cache-meta:p:{p} 9f3c 86400000  →  {"9f3c", 7}
local found = redis.call('HMGET', KEYS[1], 'i', 's')
local incarnation = found[1]
if not incarnation then
    incarnation = ARGV[1]
    redis.call('HSET', KEYS[1], 'i', incarnation)
end
if redis.call('PTTL', KEYS[1]) < ARGV[2] / 2 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {incarnation, tonumber(found[2] or 0)}
