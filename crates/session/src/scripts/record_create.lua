-- Stores a record of `tower-sessions`, unless its id is taken, or was deleted a moment ago.
--
-- KEYS  1 record: string   2 mark: see `record_delete.lua`
-- ARGV  1 the record, encoded   2 when it expires (ms since 1970)
-- Reply 1 stored, or stored before by the same call; 0 the id is taken
--
-- Example: EVALSHA … 2 session:web:{kW…}:record session:web:{kW…}:deleted {"id":…} 1700000000000  →  1
local stored = redis.call('GET', KEYS[1])
if stored then
  return stored == ARGV[1] and 1 or 0
elseif redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
return 1
