-- Leases the partition and takes a batch, when one is due: when so many keys are ready as a batch
-- holds, or the oldest is as old as it may get, or a flush asks for it.
--
-- KEYS  1 state   2 changes   3 age   4 ready   5 flight   6 tries   7 later   8 dead
-- ARGV  1 token       a random number for the lease; the same again when no reply came, and gets nothing
--                    once its batch has been reported
--       2 lease       in microseconds
--       3 items       in a batch, at most
--       4 bytes       in a batch, at most, unless one change alone is larger
--       5 age         in microseconds
--       6 partitions  of the queue, as the caller believes
--       7 pause       in microseconds, the longest that a failed change has to wait
-- Reply {-1, partitions}                   the queue has another number of partitions
--       {0, wait, pending, oldest, dead}   another's lease, which ends in so many microseconds
--       {1, wait, pending, oldest, dead}   nothing is due for so many microseconds; -1 for ever
--       {2, 0, pending, oldest, dead, key, version, own, shared, change, …}   the batch
--       oldest is an age in microseconds, dead a number of dead letters
--
-- `own` counts failures of this very change, `shared` those of batches in which it was not alone:
-- each of them halves the batch that the change is taken with, until it is alone.
--
-- Example: EVALSHA … 8 write-behind:orders:{orders.0}:state … 9f3c 10000000 100 4194304 1000000 16 60000000
--          →  {2, 0, 1, 1000000, 0, "42", "1760000000000000", 0, 0, "v{\"n\":1}"}
local state = redis.call('HMGET', KEYS[1], 'p', 'owner', 'until', 'ttl', 'flush', 'reported')
local owner = state[2]
if state[1] and state[1] ~= ARGV[6] then
    return {-1, tonumber(state[1])}
end
-- Out of memory, the server refuses a script whose first write may grow; emptying the queue must go on.
redis.call('HDEL', KEYS[1], '-')
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local items = tonumber(ARGV[3])

local function reply(kind, wait)
    local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
    local oldest = first[2] and math.max(0, now - first[2]) or 0
    return {kind, wait, redis.call('HLEN', KEYS[2]), oldest, redis.call('HLEN', KEYS[8])}
end

-- A copy of a request that arrives when its batch has been reported: nobody would write another.
if owner ~= ARGV[1] and state[6] == ARGV[1] then
    return reply(1, -1)
end

if owner and owner ~= ARGV[1] then
    local left = state[3] - now
    -- The clock was set back: no lease is longer than it was given.
    if left > tonumber(state[4]) then
        left = tonumber(state[4])
        redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + left))
    end
    if left > 0 then
        return reply(0, left)
    end
end

-- Changes that another worker was writing when its lease ran out, or that this very call took before.
local flight = redis.call('HGETALL', KEYS[5])
for n = 1, #flight, 2 do
    local key = flight[n]
    local record = redis.call('HGET', KEYS[2], key)
    if record then
        local is_same = string.match(record, '^%d+') == flight[n + 1]
        if owner and owner ~= ARGV[1] and is_same then
            local own, shared = string.match(redis.call('HGET', KEYS[6], key) or '0 0', '^(%d+) (%d+)$')
            if #flight == 2 then own = own + 1 else shared = shared + 1 end
            redis.call('HSET', KEYS[6], key, string.format('%d %d', own, shared))
        end
        redis.call('ZADD', KEYS[4], redis.call('ZSCORE', KEYS[3], key) or 0, key)
    end
end
if #flight > 0 then
    redis.call('DEL', KEYS[5])
end
if owner then
    redis.call('HDEL', KEYS[1], 'owner', 'until', 'ttl')
end

local rested = redis.call('ZRANGEBYSCORE', KEYS[7], '-inf', string.format('%.0f', now), 'LIMIT', 0, items)
-- The clock was set back: no pause is longer than it can have been given.
local beyond = '(' .. string.format('%.0f', now + ARGV[7])
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[7], beyond, '+inf', 'LIMIT', 0, items)) do
    rested[#rested + 1] = key
end
for _, key in ipairs(rested) do
    redis.call('ZREM', KEYS[7], key)
    redis.call('ZADD', KEYS[4], redis.call('ZSCORE', KEYS[3], key) or 0, key)
end

local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
local wait = -1
if first[2] then
    wait = math.max(0, first[2] + ARGV[5] - now)
    -- Versions run ahead of a clock that was set back: what is younger than new by more than it may
    -- get old is due.
    if wait > 2 * ARGV[5] then
        wait = 0
    end
    if wait > 0 and (tonumber(first[2]) <= tonumber(state[5] or 0) or redis.call('ZCARD', KEYS[4]) >= items) then
        wait = 0
    end
end
if wait ~= 0 then
    local next = redis.call('ZRANGE', KEYS[7], 0, 0, 'WITHSCORES')
    if next[2] and (wait < 0 or next[2] - now < wait) then
        wait = math.max(1, next[2] - now)
    end
    return reply(1, wait)
end

local batch = reply(2, 0)
local count, bytes, limit = 0, 0, items
for _, key in ipairs(redis.call('ZRANGE', KEYS[4], 0, items - 1)) do
    local version, change = string.match(redis.call('HGET', KEYS[2], key) or '', '^(%d+) (.*)$')
    if not version then
        -- Only when somebody else deleted the changes' key.
        redis.call('ZREM', KEYS[4], key)
    else
        local own, shared = string.match(redis.call('HGET', KEYS[6], key) or '0 0', '^(%d+) (%d+)$')
        limit = math.min(limit, math.max(1, math.floor(items / 2 ^ math.min(shared, 30))))
        bytes = bytes + #change
        if count > 0 and (count >= limit or bytes > tonumber(ARGV[4])) then
            break
        end
        count = count + 1
        redis.call('ZREM', KEYS[4], key)
        redis.call('HSET', KEYS[5], key, version)
        for _, item in ipairs({key, version, tonumber(own), tonumber(shared), change}) do
            batch[#batch + 1] = item
        end
    end
end
if count == 0 then
    return reply(1, 0)
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]), 'ttl', ARGV[2])
return batch
