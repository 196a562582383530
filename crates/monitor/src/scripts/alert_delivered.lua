-- Notes that an alert was delivered, also where the server is out of memory.
--
-- KEYS[1]: the delivery, see `alert_claim.lua`
-- ARGV[1]: for how long the note is kept (ms)
-- Reply: 1
--
-- Example: 1 ns:monitor:shop:{alerts}:delivery:hook.9c3f... 86400000 -> 1
-- Out of memory, the server refuses a script whose first write may grow.
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('SET', KEYS[1], 'sent', 'PX', ARGV[1])
return 1
