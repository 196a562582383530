-- Counts an invalidation of a stripe of tags, so that loads in progress notice. Comes before the
-- tag's own key is removed: see docs/decisions/0019.
--
-- KEYS  1 the cache's meta hash
-- ARGV  1 a random number, should the hash be new   2 ttl of the hash, in milliseconds
--       3… stripes
-- Reply OK
--
-- Example: EVALSHA … 1 cache-meta:p:{p} 9f3c 86400000 e5  →  OK
-- A server without memory refuses a script whose first write may grow.
redis.call('HDEL', KEYS[1], 'x')
if redis.call('HSETNX', KEYS[1], 'i', ARGV[1]) == 1 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
for n = 3, #ARGV do
    redis.call('HINCRBY', KEYS[1], ARGV[n], 1)
end
return redis.status_reply('OK')
