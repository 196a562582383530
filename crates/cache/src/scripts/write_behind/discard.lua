-- Throws dead letters away.
--
-- KEYS  1 dead   2 letters
-- ARGV  1… keys
-- Reply how many there were
--
-- Example: EVALSHA … 2 write-behind:orders:{orders.0}:dead write-behind:orders:{orders.0}:letters 42  →  1
redis.call('ZREM', KEYS[2], unpack(ARGV))
return redis.call('HDEL', KEYS[1], unpack(ARGV))
