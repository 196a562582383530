-- Claims the delivery of an alert, so that one instance sends it.
--
-- KEYS[1]: the delivery: the token of the instance that is sending, or "sent"
-- ARGV[1]: the instance's token; ARGV[2]: for how long the claim holds (ms)
-- Reply: -1 when it was sent, 0 when this instance is to send it, else for how long (ms) another one has it
--
-- Example: 1 ns:monitor:shop:{alerts}:delivery:hook.9c3f... 5f1c... 15000 -> 0
local holder = redis.call('GET', KEYS[1])
if holder == 'sent' then
    return -1
end
if not holder or holder == ARGV[1] then
    -- Out of memory, the server refuses a script whose first write may grow.
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 0
end
return math.max(1, redis.call('PTTL', KEYS[1]))
