-- Prolongs a lease that still stands, or a write's part of one that is contested: no value will be kept
-- then, but readers wait for the write.
--
-- Needs writes_under_way.lua before it.
--
-- KEYS  1 lease
-- ARGV  1 token   2 ttl in milliseconds
-- Reply 1 prolonged, 0 the lease is gone or another's
--
-- Example: EVALSHA … 1 cache:p:{42}:lease 9f3c 3000  →  1
local lease = redis.call('GET', KEYS[1])
-- A rest, which a load that failed has left, has its token too.
if lease and string.sub(lease, 1, 1) ~= 'c' and string.sub(lease, 2) == ARGV[1] then
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
if lease and string.find(lease, ' ' .. ARGV[1] .. ':', 1, true) and string.match(lease, '^[wW]contested ') then
    local left, now = redis.call('PTTL', KEYS[1]), now_in_ms()
    local writes = writes_under_way(lease, left, now, ARGV[1])
    writes[#writes + 1] = { ARGV[1], now + ARGV[2] }
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    contest(KEYS[1], string.sub(lease, 1, 1), writes, now)
    return 1
end
return 0
