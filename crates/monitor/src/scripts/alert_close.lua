-- Takes an instance out of an alert's episode, and ends the episode with the last one.
--
-- KEYS[1]: hash of episodes: alert -> "<number>:open" or "<number>:over"
-- KEYS[2]: sorted set of the instances that fire, by when they no longer count (us)
-- ARGV[1]: the alert; ARGV[2]: the instance; ARGV[3]: the episode that it was in
-- Reply: 1 when the episode is over, 0 while other instances fire
--
-- Example: 2 ns:monitor:shop:{alerts}:episodes ns:monitor:shop:{alerts}:firing:memory memory/orders 5f1c... 1764442800 -> 1
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
if redis.call('ZCARD', KEYS[2]) > 0 then
    return 0
end
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[3] .. ':open' then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. ':over')
end
return 1
