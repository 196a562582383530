-- Says into how many partitions the queue is divided, the first time; afterwards tells it.
--
-- KEYS  1 state
-- ARGV  1 partitions
-- Reply the number that is stored
--
-- Example: EVALSHA … 1 write-behind:orders:{orders.0}:state 16  →  "16"
redis.call('HSETNX', KEYS[1], 'p', ARGV[1])
return redis.call('HGET', KEYS[1], 'p')
