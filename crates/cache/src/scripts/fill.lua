-- Writes a loaded value, if the lease still stands: an invalidation or a write since the load began
-- took it away.
--
-- KEYS  1 entry   2 lease   3 the cache's meta hash, when the change is to be announced here: what
--       a load fills changes nothing that others may keep, what a write fills does
-- ARGV  1 token
--       2 head    the entry up to the time of writing, `rk1 <id> `
--       3 rest    the entry after it
--       4 ttl     of the entry with its grace period, in milliseconds
--       5 version of the source, or `-`
--       6 generation of the entry, or `-`
--       7 obsolete a generation that is known to be over: an entry of it does not count. Or empty
--       8 channel on which waiting callers are woken
--       with KEYS[3]: 9 channel of changes   10 a random number   11 ttl of the meta hash
-- Reply 1 written, 0 the lease did not stand, or the generation of an entry of a newer version: it
--       stays. If it is another generation, so does the lease, for a caller that finds out that it is over
--
-- Example: EVALSHA … 2 cache:p:{42} cache:p:{42}:lease 9f3c "rk1 9f3c " " 60000 …" 60000 - …  →  1
local lease = redis.call('GET', KEYS[2])
if not lease or string.sub(lease, 2) ~= ARGV[1] then
    return 0
end

-- Versions are decimals without leading zeros, and may be beyond what Lua's numbers hold.
local newer = nil
if ARGV[5] ~= '-' then
    -- A key of another type holds no version.
    local head = redis.pcall('GETRANGE', KEYS[1], 0, 160)
    head = type(head) == 'string' and head or ''
    local there, generation = string.match(head, '^rk1 %x+ %d+ %d+ %d+ %d+ (%d+) [vn] (%S+) ')
    local is_newer = there and (#there > #ARGV[5] or (#there == #ARGV[5] and there > ARGV[5]))
    if is_newer and generation ~= ARGV[7] then
        newer = generation
    end
end
if newer and ARGV[6] ~= '-' and newer ~= ARGV[6] then
    return newer
end
redis.call('DEL', KEYS[2])
if not newer then
    local time = redis.call('TIME')
    local written = string.format('%d%06d', time[1], time[2])
    redis.call('SET', KEYS[1], ARGV[2] .. written .. ARGV[3], 'PX', ARGV[4])
end
local wake = string.sub(lease, 1, 1)
if wake == 'L' or wake == 'W' then
    wake_up(ARGV[8], KEYS[1], 'f')
end
if KEYS[3] and not newer then
    if redis.call('HSETNX', KEYS[3], 'i', ARGV[10]) == 1 then
        redis.call('PEXPIRE', KEYS[3], ARGV[11])
    end
    local number = redis.call('HINCRBY', KEYS[3], 's', 1)
    local payload = redis.call('HGET', KEYS[3], 'i') .. ' ' .. string.format('%.0f', number)
    redis.call('PUBLISH', ARGV[9], payload .. ' k' .. KEYS[1])
end
return newer or 1
