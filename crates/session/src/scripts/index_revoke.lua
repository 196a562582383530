-- Marks all sessions of a named index as being revoked. The marks stay until the sessions have ended, so that
-- another call finds them should this one's caller die.
--
-- KEYS  1 index: see `index_add.lua`
-- Reply {`<tag>:<hash of the id>`, …}
--
-- Example: EVALSHA … 1 session:web:{Vw…}:indexed  →  {"907:pZ…"}
local sessions = redis.call('HKEYS', KEYS[1])
-- Out of memory, the server refuses a script whose first write may grow. No session has this name.
redis.call('HDEL', KEYS[1], '')
for _, session in ipairs(sessions) do
  redis.call('HSET', KEYS[1], session, '!')
end
return sessions
