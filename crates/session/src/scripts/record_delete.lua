-- Deletes a record of `tower-sessions`, and notes for a minute that it was there: a creation that was repeated and
-- arrives late does not bring it back.
--
-- KEYS  1 record: string   2 mark: string, empty
-- Reply 1 there was one, 0 there was none
--
-- Example: EVALSHA … 2 session:web:{kW…}:record session:web:{kW…}:deleted  →  1
local deleted = redis.call('DEL', KEYS[1])
if deleted == 1 then
  redis.call('SET', KEYS[2], '', 'PX', 60000)
end
return deleted
