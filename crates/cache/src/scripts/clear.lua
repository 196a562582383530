-- Gives the cache a new generation, which no entry has.
--
-- KEYS  1 the cache's meta hash   2 the cache's generation
-- ARGV  1 a random number, of which the generation is made   2 ttl of both, in milliseconds
--       3 channel of changes, or empty when nobody is to be told
-- Reply OK
--
-- Example: EVALSHA … 2 cache-meta:p:{p} cache-meta:p:{p}:generation 9f3c 86400000 cache:p:changes  →  OK
-- Made here and now: a call that is repeated because its reply was lost must not bring back a number
-- that was given up meanwhile. Without a leading zero, as numbers are written everywhere.
local function fresh()
    local time = redis.call('TIME')
    local made = redis.sha1hex(ARGV[1] .. time[1] .. ' ' .. time[2])
    return string.sub(string.match(made, '[1-9a-f]%x*'), 1, 16)
end

-- A server without memory refuses a script whose first write may grow.
redis.call('HDEL', KEYS[1], 'x')
redis.call('SET', KEYS[2], fresh(), 'PX', ARGV[2])
if ARGV[3] ~= '' then
    if redis.call('HSETNX', KEYS[1], 'i', ARGV[1]) == 1 then
        redis.call('PEXPIRE', KEYS[1], ARGV[2])
    end
    local number = redis.call('HINCRBY', KEYS[1], 's', 1)
    local payload = redis.call('HGET', KEYS[1], 'i') .. ' ' .. string.format('%.0f', number)
    redis.call('PUBLISH', ARGV[3], payload .. ' c')
end
return redis.status_reply('OK')
