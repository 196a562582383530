-- What an entry that is about to be loaded will be judged by. Read before the load: an
-- invalidation during the load shows as a difference.
--
-- KEYS  1 the cache's meta hash
-- ARGV  1 a random number, should the hash be new
--       2 ttl     of the hash, in milliseconds: longer than an entry's, and prolonged here
-- Reply {i, g, field, value, …}  incarnation, generation, and the counts of the stripes of tags
--
-- Example: EVALSHA … 1 cache-meta:p:{p} 9f3c 86400000  →  {"9f3c", "9f3c", "e5", "2"}
-- A server without memory refuses a script whose first write may grow: here mostly nothing is written.
if redis.call('HEXISTS', KEYS[1], 'i') == 0 then
    redis.call('HSET', KEYS[1], 'i', ARGV[1], 'g', ARGV[1])
end
if redis.call('PTTL', KEYS[1]) < ARGV[2] / 2 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local all = redis.call('HGETALL', KEYS[1])
local reply = {redis.call('HGET', KEYS[1], 'i'), redis.call('HGET', KEYS[1], 'g')}
for n = 1, #all, 2 do
    if string.sub(all[n], 1, 1) == 'e' then
        reply[#reply + 1] = all[n]
        reply[#reply + 1] = all[n + 1]
    end
end
return reply
