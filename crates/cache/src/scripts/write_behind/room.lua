-- Whether a change of a key would be accepted: without the change, which may be large. If not, the next
-- report wakes the callers that wait for it.
--
-- KEYS  1 state   2 changes
-- ARGV  1 key   2 limit of pending keys
-- Reply 1 there is room or the key is pending, 0 the queue is full
--
-- Example: EVALSHA … 2 write-behind:orders:{orders.0}:state …:changes 42 10000  →  1
if redis.call('HLEN', KEYS[2]) < tonumber(ARGV[2]) or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
    return 1
end
-- Out of memory, the server refuses a script whose first write may grow.
redis.call('HDEL', KEYS[1], '-')
redis.call('HSET', KEYS[1], 'w', '1')
return 0
