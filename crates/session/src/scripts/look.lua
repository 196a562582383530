-- Tells an administrator of a session, and does not use it.
--
-- KEYS  1 to 5: see `bucket.lua`
-- ARGV  1 hash of the id
-- Reply {1, expires, c, a, t, z, u, n, d, l, x}, with the fields of `bucket.lua`; {0}, {2}, {3} as `load.lua`
--
-- Example: EVALSHA … 5 session:web:{907}:s:pZ… … pZ…  →  {1, "1700001800000000", "1700000000000000", …}
local session, over = open(ARGV[1])
if not session then
  return { over }
end
local seen = redis.call('HGET', KEYS[1], 't') or session.c
local expires = math.min(expires_of(session), tonumber(session.a))
return {
  1, text(expires), session.c, session.a, seen, session.z, session.u, session.n, session.d, session.l, session.x or '',
}
