-- Begins a write of the source: the entry goes, loads in progress will not be kept, and two writes
-- at once disqualify each other, because nobody knows which the source carried out last. The lease
-- then is `contested`, which is no write's token, and ends with the last of them (invalidate.lua): a
-- reader that loaded before that would keep an old value, should a writer die.
--
-- Needs writes_under_way.lua before it.
--
-- The entry goes now and not after the write: a process that dies in between must not leave behind
-- what the source does not have any more.
--
-- KEYS  1 entry   2 lease   3 the cache's meta hash, when the change is to be announced here
-- ARGV  1 token   2 ttl of the lease, in milliseconds
--       3 channel on which waiting callers are woken
--       with KEYS[3]: 4 channel of changes   5 a random number   6 ttl of the meta hash
-- Reply 1 begun, 0 another write is in progress
--
-- Example: EVALSHA … 2 cache:p:{42} cache:p:{42}:lease 9f3c 3000 cache:p:wake  →  1
redis.call('UNLINK', KEYS[1])
if KEYS[3] then
    if redis.call('HSETNX', KEYS[3], 'i', ARGV[5]) == 1 then
        redis.call('PEXPIRE', KEYS[3], ARGV[6])
    end
    local number = redis.call('HINCRBY', KEYS[3], 's', 1)
    local payload = redis.call('HGET', KEYS[3], 'i') .. ' ' .. string.format('%.0f', number)
    redis.call('PUBLISH', ARGV[4], payload .. ' k' .. KEYS[1])
end

local lease = redis.call('GET', KEYS[2])
local kind = lease and string.sub(lease, 1, 1)
if (kind == 'w' or kind == 'W') and string.sub(lease, 2) ~= ARGV[1] then
    local now = now_in_ms()
    local writes = writes_under_way(lease, redis.call('PTTL', KEYS[2]), now, ARGV[1])
    -- A key that a hundred write at once needs no longer list: the last place is that of all others, and no write ends it.
    local place = math.min(#writes + 1, 101)
    writes[place] = { place <= 100 and ARGV[1] or '*', now + ARGV[2] }
    contest(KEYS[2], kind, writes, now)
    return 0
end
-- Begun already, and somebody waits: the first reply was lost.
redis.call('SET', KEYS[2], (kind == 'W' and 'W' or 'w') .. ARGV[1], 'PX', ARGV[2])
if kind == 'L' then
    wake_up(ARGV[3], KEYS[1], 'r')
end
return 1
