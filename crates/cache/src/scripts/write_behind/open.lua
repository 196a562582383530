-- Says into how many partitions the queue is divided, the first time; afterwards tells it.
--
-- KEYS  1 state
-- ARGV  1 partitions
-- Reply the number that is stored
--
-- Example: EVALSHA … 1 write-behind:orders:{orders.0}:state 16  →  "16"
-- Asked first: out of memory, a queue that is there can still be opened, to be emptied.
local stored = redis.call('HGET', KEYS[1], 'p')
if not stored then
    redis.call('HSET', KEYS[1], 'p', ARGV[1])
end
return stored or ARGV[1]
