-- Begins a write of the source: loads in progress will not be kept, and two writes at once
-- disqualify each other, because nobody knows which the source carried out last.
--
-- KEYS  1 lease
-- ARGV  1 token   2 ttl in milliseconds   3 channel on which those who wait are woken
--       4 entry   the entry's key, for them
-- Reply 1 begun, 0 another write is in progress
--
-- Example: EVALSHA … 1 cache:p:{42}:lease 9f3c 3000 cache:p:wake cache:p:{42}  →  1
local lease = redis.call('GET', KEYS[1])
local kind = lease and string.sub(lease, 1, 1)
if (kind == 'w' or kind == 'W') and string.sub(lease, 2) ~= ARGV[1] then
    -- A token that is nobody's: neither of them will be kept.
    redis.call('SET', KEYS[1], kind .. 'contested', 'PX', ARGV[2])
    return 0
end
redis.call('SET', KEYS[1], 'w' .. ARGV[1], 'PX', ARGV[2])
if kind == 'L' then
    redis.call('PUBLISH', ARGV[3], 'r' .. string.format('%08x', #ARGV[4]) .. ARGV[4])
end
return 1
