-- Whether a change of a key would be accepted: without the change, which may be large.
--
-- KEYS  1 changes
-- ARGV  1 key   2 limit of pending keys
-- Reply 1 there is room or the key is pending, 0 the queue is full
--
-- Example: EVALSHA … 1 write-behind:orders:{orders.0}:changes 42 10000  →  1
if redis.call('HLEN', KEYS[1]) < tonumber(ARGV[2]) then
    return 1
end
return redis.call('HEXISTS', KEYS[1], ARGV[1])
