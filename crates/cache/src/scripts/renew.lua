-- Prolongs a lease that still stands.
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
return 0
