-- Says how the changes of a batch have ended, gives the lease back, and wakes the callers that wait for room or
-- for the end of a flush. Valid as long as nobody has
-- taken the partition over, even when the lease has run out by then.
--
-- KEYS  1 state   2 changes   3 age   4 ready   5 flight   6 tries   7 later   8 dead   9 letters
-- ARGV  1 token   2 channel of wake-ups   3 the name under which these callers wait
--       then for each change
--       + 1 key   2 version   3 verdict   4 delay in microseconds   5 text of the error
--       verdicts: `w` written, `o` the change failed, `s` a batch failed that it was in with others,
--       `u` not tried, `d` given up
-- Reply 1 noted, now or before; 0 another has taken the partition over
--
-- A change is only taken off when it is still the newest of its key: otherwise the newer one waits.
--
-- Example: EVALSHA … 9 write-behind:orders:{orders.0}:state … 9f3c write-behind:orders:wake 0:done
--            42 1760000000000000 w 0 ""  →  1
local state = redis.call('HMGET', KEYS[1], 'owner', 'reported')
if state[1] ~= ARGV[1] then
    return state[2] == ARGV[1] and 1 or 0
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function rest(key, delay)
    if delay > 0 then
        redis.call('ZREM', KEYS[4], key)
        redis.call('ZADD', KEYS[7], string.format('%.0f', now + delay), key)
    else
        redis.call('ZADD', KEYS[4], redis.call('ZSCORE', KEYS[3], key) or 0, key)
    end
end

local function forget(key)
    redis.call('HDEL', KEYS[2], key)
    redis.call('ZREM', KEYS[3], key)
    redis.call('HDEL', KEYS[6], key)
end

for n = 4, #ARGV - 4, 5 do
    local key, version, verdict, delay, text = ARGV[n], ARGV[n + 1], ARGV[n + 2], tonumber(ARGV[n + 3]), ARGV[n + 4]
    local record = redis.call('HGET', KEYS[2], key)
    if record and redis.call('HGET', KEYS[5], key) == version then
        redis.call('HDEL', KEYS[5], key)
        local current, change = string.match(record, '^(%d+) (.*)$')
        if current ~= version then
            -- The key is as old as its oldest change that has not ended: a flush waits for that.
            if verdict == 'w' or verdict == 'd' then
                redis.call('ZADD', KEYS[3], redis.call('ZSCORE', KEYS[4], key) or current, key)
            end
            if delay > 0 or (verdict ~= 'w' and verdict ~= 'd') then
                rest(key, delay)
            end
        elseif verdict == 'w' then
            forget(key)
        else
            local own, shared = string.match(redis.call('HGET', KEYS[6], key) or '0 0', '^(%d+) (%d+)$')
            if verdict == 'o' or verdict == 'd' then
                own = own + 1
            elseif verdict == 's' then
                shared = shared + 1
            end
            if verdict == 'd' then
                local head = string.format('d %s %.0f %d %d ', version, now, own, #text)
                redis.call('HSET', KEYS[8], key, head .. text .. change)
                redis.call('ZADD', KEYS[9], 0, key)
                forget(key)
            else
                if verdict ~= 'u' then
                    redis.call('HSET', KEYS[6], key, string.format('%d %d', own, shared))
                end
                rest(key, delay)
            end
        end
    end
end

-- Changes that the batch held and the report did not name.
local flight = redis.call('HKEYS', KEYS[5])
for _, key in ipairs(flight) do
    redis.call('HDEL', KEYS[5], key)
    redis.call('ZADD', KEYS[4], redis.call('ZSCORE', KEYS[3], key) or 0, key)
end
redis.call('HDEL', KEYS[1], 'owner', 'until', 'ttl')
redis.call('HSET', KEYS[1], 'reported', ARGV[1])
if redis.call('HDEL', KEYS[1], 'w') == 1 then
    wake_up(ARGV[2], ARGV[3])
end
return 1
