-- Moves a session's expiry further away, within its absolute timeout.
--
-- KEYS  1 to 5: see `bucket.lua`
-- ARGV  1 hash of the id   2 by how much (µs)
-- Reply {1, now, expires}, or {0}, {2}, {3}, {4} as `commit.lua`
--
-- Example: EVALSHA … 5 session:web:{907}:s:pZ… … pZ… 600000000  →  {1, "1700000000000000", "1700002400000000"}
local session, over = open(ARGV[1])
if not session then
  return { over }
end
if session.x then
  return { 4 }
end
local absolute = tonumber(session.a)
local wanted = math.min(expires_of(session) + ARGV[2], absolute)
local expires = whole(wanted)
redis.call('HSET', KEYS[1], 't', text(now))
redis.call('PEXPIREAT', KEYS[1], text(expires / 1000))
if session.u ~= '' then
  index(session, ARGV[1], expires)
end
return { 1, text(now), text(wanted) }
