-- How many keys have been pending since a version or longer. If there are any, the next report wakes the
-- callers that wait for it.
--
-- KEYS  1 state   2 age
-- ARGV  1 version
-- Reply the number
--
-- Example: EVALSHA … 2 write-behind:orders:{orders.0}:state …:age 1760000000000000  →  3
local older = redis.call('ZCOUNT', KEYS[2], '-inf', ARGV[1])
if older > 0 then
    -- Out of memory, the server refuses a script whose first write may grow.
    redis.call('HDEL', KEYS[1], '-')
    redis.call('HSET', KEYS[1], 'w', '1')
end
return older
