-- Puts dead letters back into the queue, except those whose key was written since.
--
-- KEYS  1 state   2 changes   3 age   4 ready   5 tries   6 dead   7 letters
-- ARGV  1 channel of wake-ups   2 the name under which workers wait   3… keys
-- Reply {put back, written since, not found}
--
-- A change keeps its version: nothing newer has been written, and its age begins anew.
--
-- Example: EVALSHA … 7 write-behind:orders:{orders.0}:state … write-behind:orders:wake 0:due 42 43
--          →  {1, 0, 1}
-- Out of memory, the server refuses a script whose first write may grow; what is put back takes no more.
redis.call('HDEL', KEYS[1], '-')
local back, newer, missing = 0, 0, 0
for n = 3, #ARGV do
    local key = ARGV[n]
    local letter = redis.call('HGET', KEYS[6], key)
    if not letter then
        missing = missing + 1
    else
        local mark, version, length, rest = string.match(letter, '^(%a) (%d+) %d+ %d+ (%d+) (.*)$')
        if mark ~= 'd' or redis.call('HEXISTS', KEYS[2], key) == 1 then
            newer = newer + 1
        else
            local time = redis.call('TIME')
            local last = tonumber(redis.call('HGET', KEYS[1], 'seq') or 0)
            local since = string.format('%.0f', math.max(time[1] * 1000000 + time[2], last + 1))
            redis.call('HSET', KEYS[1], 'seq', since)
            redis.call('HSET', KEYS[2], key, version .. ' ' .. string.sub(rest, length + 1))
            redis.call('ZADD', KEYS[3], since, key)
            redis.call('ZADD', KEYS[4], since, key)
            redis.call('HDEL', KEYS[5], key)
            redis.call('HDEL', KEYS[6], key)
            redis.call('ZREM', KEYS[7], key)
            back = back + 1
        end
    end
end
if back > 0 then
    wake_up(ARGV[1], ARGV[2])
end
return {back, newer, missing}
