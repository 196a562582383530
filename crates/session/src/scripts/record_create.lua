-- Stores a record of `tower-sessions`, unless its id is taken.
--
-- KEYS  1 record: string
-- ARGV  1 the record, encoded   2 when it expires (ms since 1970)
-- Reply 1 stored, or stored before by the same call; 0 the id is taken
--
-- Example: EVALSHA … 1 session:web:{kW…}:record {"id":…} 1700000000000  →  1
local stored = redis.call('GET', KEYS[1])
if stored then
  return stored == ARGV[1] and 1 or 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
return 1
