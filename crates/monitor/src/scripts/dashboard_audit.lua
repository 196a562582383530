-- Adds an entry to the audit, also where the server is out of memory.
--
-- KEYS[1]  the audit (stream)
-- ARGV[1]  how many entries are kept, about    ARGV[2…] fields and texts
-- Reply    the entry's id
-- Example  EVALSHA … 1 ns:monitor:dashboard:{fleet}:audit 10000 viewer ann kind topic … outcome begun → 1764428400000-0
-- Out of memory, the server refuses a script whose first write may grow.
redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[1])
return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 2))
