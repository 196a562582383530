-- How many keys have been pending since a version or longer.
--
-- KEYS  1 age
-- ARGV  1 version
-- Reply the number
--
-- Example: EVALSHA … 1 write-behind:orders:{orders.0}:age 1760000000000000  →  3
return redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[1])
