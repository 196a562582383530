-- Removes an entry, and the lease with it: what is being loaded now was read too early to be kept.
--
-- KEYS  1 entry   2 lease   3 the cache's meta hash, when the change is to be announced here
-- ARGV  1 channel on which waiting callers are woken
--       with KEYS[3]: 2 channel of changes   3 a random number   4 ttl of the meta hash
-- Reply 1 there was an entry, 0 there was none
--
-- Example: EVALSHA … 2 cache:p:{42} cache:p:{42}:lease cache:p:wake  →  1
local removed = redis.call('UNLINK', KEYS[1])
local lease = redis.call('GET', KEYS[2])
if lease then
    redis.call('DEL', KEYS[2])
    local wake = string.sub(lease, 1, 1)
    if wake == 'L' or wake == 'W' then
        wake_up(ARGV[1], KEYS[1], 'r')
    end
end

if KEYS[3] then
    if redis.call('HSETNX', KEYS[3], 'i', ARGV[3]) == 1 then
        redis.call('PEXPIRE', KEYS[3], ARGV[4])
    end
    local number = redis.call('HINCRBY', KEYS[3], 's', 1)
    local payload = redis.call('HGET', KEYS[3], 'i') .. ' ' .. string.format('%.0f', number)
    redis.call('PUBLISH', ARGV[2], payload .. ' k' .. KEYS[1])
end
return removed
