-- The change of a key that is pending. A script, because `HGET` may be sent to a replica, which may
-- not have it yet.
--
-- KEYS  1 changes
-- ARGV  1 key
-- Reply `<version> <change>`, or nil
--
-- Example: EVALSHA … 1 write-behind:orders:{orders.0}:changes 42  →  "1760000000000000 v{\"n\":1}"
return redis.call('HGET', KEYS[1], ARGV[1])
