-- Tells which episode of an alert this instance is in, when it fires or goes on firing. Instances that fire
-- at the same time are in one episode; its number makes the alert's idempotency key.
--
-- KEYS[1]: hash of episodes: alert -> "<number>:open" or "<number>:over"
-- KEYS[2]: sorted set of the instances that fire, by when they no longer count (us)
-- ARGV[1]: the alert; ARGV[2]: the instance; ARGV[3]: the episode that it is in, 0 for none yet;
-- ARGV[4]: for how long it counts (us); ARGV[5]: for how long episodes are remembered (ms);
-- ARGV[6]: the latest episode whose end the instance has told or seen, 0 for none
-- Reply: the episode's number, larger than that of every earlier one, also after a loss of the data. An episode
-- that is open goes on, also when all instances in it have died: its receivers know of no end. One whose end was
-- told does not, also when that could not be noted here, or was lost.
--
-- Example: 2 ns:monitor:shop:{alerts}:episodes ns:monitor:shop:{alerts}:firing:memory memory/orders 5f1c... 0 30000000 7776000000 0
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local number, state = 0, 'over'
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored then
    local digits, word = string.match(stored, '^(%d+):(%a+)$')
    if digits then
        number, state = tonumber(digits), word
    end
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
local known, over = tonumber(ARGV[3]), tonumber(ARGV[6])
if over >= number then
    number, state = over, 'over'
end
if known > number or (known == number and known > 0 and state == 'open') then
    -- It has fired without this server, or goes on firing.
    number = known
elseif state ~= 'open' then
    -- The last episode is over; also one that this instance was in, when it was not heard from for long.
    number = math.max(number + 1, tonumber(time[1]))
    -- The hash lives as long as there are alerts: what was over too long ago is dropped from it.
    local oldest = tonumber(time[1]) - tonumber(ARGV[5]) / 1000
    local all = redis.call('HGETALL', KEYS[1])
    for at = 1, #all, 2 do
        local digits = string.match(all[at + 1], '^(%d+):over$')
        if digits and tonumber(digits) < oldest then
            redis.call('HDEL', KEYS[1], all[at])
        end
    end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:open', number))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[4])), ARGV[2])
redis.call('PEXPIRE', KEYS[2], math.ceil(tonumber(ARGV[4]) / 1000) + 1000)
return number
