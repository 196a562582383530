-- Prolongs the lease of a partition that is still the caller's.
--
-- KEYS  1 state
-- ARGV  1 token   2 lease, in microseconds
-- Reply 1 prolonged, 0 another has taken the partition over
--
-- Example: EVALSHA … 1 write-behind:orders:{orders.0}:state 9f3c 10000000  →  1
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
    return 0
end
-- Out of memory, the server refuses a script whose first write may grow; writing must go on.
redis.call('HDEL', KEYS[1], '-')
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + ARGV[2]), 'ttl', ARGV[2])
return 1
