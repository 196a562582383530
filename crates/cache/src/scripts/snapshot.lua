-- The counts by which an entry that is about to be loaded will be judged. Read before the load: an
-- invalidation during the load shows as a difference.
--
-- KEYS  1 the cache's meta hash   2 the cache's generation
-- ARGV  1 a random number, of which another is made should any of the two be new
--       2 ttl     of both, in milliseconds: longer than an entry's, and prolonged here
-- Reply {i, g, field, value, …}  incarnation, generation, and the counts of the stripes of tags
--
-- Example: EVALSHA … 2 cache-meta:p:{p} cache-meta:p:{p}:generation 9f3c 86400000  →  {"9f3c", "9f3c", "e5", "2"}
-- Made here and now: a call that is repeated because its reply was lost must not bring back a number
-- that was given up meanwhile. Without a leading zero, as numbers are written everywhere.
local function fresh()
    local time = redis.call('TIME')
    local made = redis.sha1hex(ARGV[1] .. time[1] .. ' ' .. time[2])
    return string.sub(string.match(made, '[1-9a-f]%x*'), 1, 16)
end

-- Written only where something is missing: a server without memory still answers.
local all = redis.call('HGETALL', KEYS[1])
local incarnation, stripes = nil, {}
for n = 1, #all, 2 do
    if all[n] == 'i' then
        incarnation = all[n + 1]
    elseif string.sub(all[n], 1, 1) == 'e' then
        stripes[#stripes + 1] = all[n]
        stripes[#stripes + 1] = all[n + 1]
    end
end
if not incarnation then
    incarnation = fresh()
    redis.call('HSET', KEYS[1], 'i', incarnation)
end
local generation = redis.call('GET', KEYS[2])
if not generation then
    generation = fresh()
    redis.call('SET', KEYS[2], generation, 'PX', ARGV[2])
end
for n = 1, 2 do
    if redis.call('PTTL', KEYS[n]) < ARGV[2] / 2 then
        redis.call('PEXPIRE', KEYS[n], ARGV[2])
    end
end
local reply = {incarnation, generation}
for n = 1, #stripes do
    reply[n + 2] = stripes[n]
end
return reply
