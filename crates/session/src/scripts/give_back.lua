-- Takes back that a session was left to its grace: its caller went away, and nobody has the id of the successor. A
-- `retire.lua` of that rotation which arrives later finds another revision than it has copied.
--
-- KEYS  1 to 5: see `bucket.lua`
-- ARGV  1 hash of the id   2 hash of the successor's id, see `x` in `bucket.lua`
--       3 the revision that was copied: only that one is raised, so that a call which is repeated raises none again
-- Reply 1 it is as before, as if it were used now; 0 it has ended, or has another successor or none
--
-- Example: EVALSHA … 5 session:web:{12}:s:pZ… … pZ… kW… 3  →  1
local hash = ARGV[1]
local session = open(hash)
if not session or session.x and session.x ~= ARGV[2] then
  return 0
end
-- Out of memory, the server refuses a script whose first write may grow.
redis.call('HDEL', KEYS[1], 'x')
if session.r == ARGV[3] then
  redis.call('HINCRBY', KEYS[1], 'r', 1)
end
if not session.x then
  return 0
end
session.x = false
local expires = expiry(tonumber(session.i), tonumber(session.a))
redis.call('PEXPIREAT', KEYS[1], text(expires / 1000))
if session.u ~= '' then
  redis.call('ZREM', KEYS[3], '~' .. session.u .. hash)
  index(session, hash, expires, true)
end
return 1
