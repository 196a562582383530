-- The generation of a tag, made when there is none, and kept for as long as entries may have it.
--
-- KEYS  1 tag
-- ARGV  1 a random number, of which the generation is made should the tag be new   2 ttl in ms
-- Reply the generation
--
-- Example: EVALSHA … 1 cache-tag:p:{shoes} 9f3c 120000  →  "9f3c"
-- Made here and now: a call that is repeated because its reply was lost must not bring back a number
-- that was given up meanwhile. Without a leading zero, as numbers are written everywhere.
local function fresh()
    local time = redis.call('TIME')
    local made = redis.sha1hex(ARGV[1] .. time[1] .. ' ' .. time[2])
    return string.sub(string.match(made, '[1-9a-f]%x*'), 1, 16)
end
local generation = redis.call('GET', KEYS[1])
if not generation then
    generation = fresh()
    redis.call('SET', KEYS[1], generation, 'PX', ARGV[2])
end
-- Half of it is longer than any entry lives. A key that every load touched would be told to every
-- level that tracks it.
if redis.call('PTTL', KEYS[1]) < ARGV[2] / 2 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return generation
