-- Writes an entry whatever is there, except a newer version; loads in progress will not replace it.
--
-- KEYS  1 entry   2 lease   3 the cache's meta hash, when the change is to be announced here
-- ARGV  1 head    the entry up to the time of writing, `rk1 <id> `
--       2 rest    the entry after it
--       3 ttl     of the entry with its grace period, in milliseconds
--       4 version of the source, or `-`
--       5 obsolete a generation that is known to be over: an entry of it does not count. Or empty
--       6 channel on which waiting callers are woken
--       with KEYS[3]: 7 channel of changes   8 a random number   9 ttl of the meta hash
-- Reply 1 written, or the generation of an entry of a newer version, which stays
--
-- Example: EVALSHA … 2 cache:p:{42} cache:p:{42}:lease "rk1 9f3c " " 60000 …" 60000 - …  →  1
if ARGV[4] ~= '-' then
    -- A key of another type holds no version.
    local head = redis.pcall('GETRANGE', KEYS[1], 0, 160)
    head = type(head) == 'string' and head or ''
    local there, generation = string.match(head, '^rk1 %x+ %d+ %d+ %d+ %d+ (%d+) [vn] (%S+) ')
    local is_newer = there and (#there > #ARGV[4] or (#there == #ARGV[4] and there > ARGV[4]))
    if is_newer and generation ~= ARGV[5] then
        return generation
    end
end
local time = redis.call('TIME')
local written = string.format('%d%06d', time[1], time[2])
redis.call('SET', KEYS[1], ARGV[1] .. written .. ARGV[2], 'PX', ARGV[3])

local lease = redis.call('GET', KEYS[2])
if lease then
    redis.call('DEL', KEYS[2])
    local wake = string.sub(lease, 1, 1)
    if wake == 'L' or wake == 'W' then
        wake_up(ARGV[6], KEYS[1], 'f')
    end
end

if KEYS[3] then
    if redis.call('HSETNX', KEYS[3], 'i', ARGV[8]) == 1 then
        redis.call('PEXPIRE', KEYS[3], ARGV[9])
    end
    local number = redis.call('HINCRBY', KEYS[3], 's', 1)
    local payload = redis.call('HGET', KEYS[3], 'i') .. ' ' .. string.format('%.0f', number)
    redis.call('PUBLISH', ARGV[7], payload .. ' k' .. KEYS[1])
end
return 1
