-- Removes an entry, or one entry and no other, and the lease of a load with it: what is being loaded now was read too early to be
-- kept. Writes under way will not be kept either, but their lease stays until the last of them has
-- ended: a reader that loads before that would keep what a write replaces, and whose writer may die.
--
-- Needs writes_under_way.lua before it.
--
-- KEYS  1 entry   2 lease   3 the cache's meta hash, when the change is to be announced here
-- ARGV  1 channel on which waiting callers are woken
--       2 token of the caller's write, which ends here, or empty
--       3 only    the id of the entry that alone is removed, or empty: while another is there, or
--                 none, nothing changes
--       with KEYS[3]: 4 channel of changes   5 a random number   6 ttl of the meta hash
-- Reply 1 there was an entry, 0 there was none, or another
--
-- Example: EVALSHA … 2 cache:p:{42} cache:p:{42}:lease cache:p:wake "" 9f3c  →  1
if ARGV[3] ~= '' then
    -- A key of another type holds no entry.
    local head = redis.pcall('GETRANGE', KEYS[1], 0, 160)
    if type(head) ~= 'string' or string.match(head, '^rk1 (%x+) ') ~= ARGV[3] then
        return 0
    end
end

local removed = redis.call('UNLINK', KEYS[1])
local lease = redis.call('GET', KEYS[2])
if lease then
    local kind, now = string.sub(lease, 1, 1), now_in_ms()
    local writes = writes_under_way(lease, redis.call('PTTL', KEYS[2]), now, ARGV[2])
    if #writes > 0 then
        contest(KEYS[2], kind, writes, now)
    else
        redis.call('DEL', KEYS[2])
        if kind == 'L' or kind == 'W' then
            wake_up(ARGV[1], KEYS[1], 'r')
        end
    end
end

if KEYS[3] then
    if redis.call('HSETNX', KEYS[3], 'i', ARGV[5]) == 1 then
        redis.call('PEXPIRE', KEYS[3], ARGV[6])
    end
    local number = redis.call('HINCRBY', KEYS[3], 's', 1)
    local payload = redis.call('HGET', KEYS[3], 'i') .. ' ' .. string.format('%.0f', number)
    redis.call('PUBLISH', ARGV[4], payload .. ' k' .. KEYS[1])
end
return removed
