-- Counts the contents of a partition.
--
-- KEYS  1 changes   2 age   3 flight   4 later   5 dead
-- ARGV  none
-- Reply {pending, in flight, waiting for another attempt, dead letters, oldest age in microseconds}
--
-- Example: EVALSHA … 5 write-behind:orders:{orders.0}:changes …  →  {3, 1, 1, 0, 250000}
local time = redis.call('TIME')
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local oldest = first[2] and math.max(0, time[1] * 1000000 + time[2] - first[2]) or 0
return {
    redis.call('HLEN', KEYS[1]), redis.call('HLEN', KEYS[3]), redis.call('ZCARD', KEYS[4]),
    redis.call('HLEN', KEYS[5]), oldest,
}
