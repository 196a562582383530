-- Accepts a change of a key: it takes the place of one that waits. A change that is being written
-- stays as it is, and this one comes after it.
--
-- KEYS  1 state   2 changes   3 age   4 ready   5 flight   6 tries   7 ids   8 dead
-- ARGV  1 key
--       2 change      `v` and the value, or `d` for a delete
--       3 id          of this write; the same id is accepted once for each key
--       4 partitions  of the queue, as the caller believes
--       5 limit       of pending keys
--       6 window      how long ids are remembered, in microseconds
--       7 items       in a batch, at most
--       8 channel     of wake-ups, and 9 the name under which workers wait
-- Reply {1, version, pending, coalesced}   accepted; coalesced is 1 when the key was pending already
--       {2, version, pending, 0}           this id was accepted before for this key
--       {0, pending}                       the queue is full, and the key not in it
--       {-1, partitions}                   the queue has another number of partitions
--
-- Workers are woken by the first change that is ready and by the one that fills a batch: until then they
-- sleep.
--
-- A version is the server's time in microseconds, or one more than the last: it grows also when a
-- failover loses writes or the clock is set back.
--
-- Example: EVALSHA … 8 write-behind:orders:{orders.0}:state … 42 v{"n":1} <16 bytes> 16 10000 60000000
--            100 write-behind:orders:wake 0:due
--          →  {1, "1760000000000000", 1, 0}
local stored = redis.call('HGET', KEYS[1], 'p')
if not stored then
    redis.call('HSET', KEYS[1], 'p', ARGV[4])
elseif stored ~= ARGV[4] then
    return {-1, tonumber(stored)}
end

local pending = redis.call('HLEN', KEYS[2])
local write = ARGV[3] .. ARGV[1]
local before = redis.call('ZSCORE', KEYS[7], write)
if before then
    return {2, string.format('%.0f', tonumber(before)), pending, 0}
end
local is_pending = redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1
if not is_pending and pending >= tonumber(ARGV[5]) then
    return {0, pending}
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('HGET', KEYS[1], 'seq') or 0)
local version = string.format('%.0f', math.max(now, last + 1))
redis.call('HSET', KEYS[1], 'seq', version)
redis.call('HSET', KEYS[2], ARGV[1], version .. ' ' .. ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[7], '-inf', string.format('%.0f', now - ARGV[6]))
redis.call('ZADD', KEYS[7], version, write)

local is_added = 0
if not is_pending then
    redis.call('ZADD', KEYS[3], version, ARGV[1])
    is_added = redis.call('ZADD', KEYS[4], version, ARGV[1])
elseif redis.call('HEXISTS', KEYS[5], ARGV[1]) == 1 then
    is_added = redis.call('ZADD', KEYS[4], 'NX', version, ARGV[1])
end
if is_added == 1 then
    local ready = redis.call('ZCARD', KEYS[4])
    if ready == 1 or ready == tonumber(ARGV[7]) then
        wake_up(ARGV[8], ARGV[9])
    end
end
-- Failures were the older change's. A time that it has to wait stays: that is the key's.
redis.call('HDEL', KEYS[6], ARGV[1])
-- A dead letter of this key must not come back after this write.
local letter = redis.call('HGET', KEYS[8], ARGV[1])
if letter and string.sub(letter, 1, 1) == 'd' then
    redis.call('HSET', KEYS[8], ARGV[1], 's' .. string.sub(letter, 2))
end
return {1, version, pending + (is_pending and 0 or 1), is_pending and 1 or 0}
