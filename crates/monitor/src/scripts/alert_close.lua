-- Takes an instance out of an alert's episode, and ends the episode with the last one.
--
-- KEYS[1]: hash of episodes: alert -> "<number>:open" or "<number>:over"
-- KEYS[2]: sorted set of the instances that fire, by when they no longer count (us)
-- ARGV[1]: the alert; ARGV[2]: the instance; ARGV[3]: the episode that it was in;
-- ARGV[4]: 1 when the end has been told, for want of this server: then it is over whoever fires, and those who
-- do are in a new episode when they say so next; ARGV[5]: for how long episodes are remembered (ms)
-- Reply: 1 when the episode is over, 0 while other instances fire
--
-- Example: 2 ns:monitor:shop:{alerts}:episodes ns:monitor:shop:{alerts}:firing:memory memory/orders 5f1c... 1764442800 0 7776000000 -> 1
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
if ARGV[4] ~= '1' and redis.call('ZCARD', KEYS[2]) > 0 then
    return 0
end
local number, state = 0, 'over'
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored then
    local digits, word = string.match(stored, '^(%d+):(%a+)$')
    if digits then
        number, state = tonumber(digits), word
    end
end
local episode = tonumber(ARGV[3])
if episode > number or (episode == number and state == 'open') then
    redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:over', episode))
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
return 1
