-- Makes everything that is pending due now, and wakes the workers.
--
-- KEYS  1 state
-- ARGV  1 channel of wake-ups   2 the name under which workers wait
-- Reply the version up to which it is due: what is pending with that or an older one is waited for
--
-- Example: EVALSHA … 1 write-behind:orders:{orders.0}:state write-behind:orders:wake 0:due  →  "1760000000000000"
local last = redis.call('HGET', KEYS[1], 'seq')
if not last then
    return '0'
end
-- Out of memory, the server refuses a script whose first write may grow; emptying the queue must go on.
redis.call('HDEL', KEYS[1], '-')
redis.call('HSET', KEYS[1], 'flush', last)
wake_up(ARGV[1], ARGV[2])
return last
