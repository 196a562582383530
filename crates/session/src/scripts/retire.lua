-- Leaves a rotated session to its grace: it stays what it was for requests under way, takes no changes
-- any more, and runs out.
--
-- KEYS  1 to 5: see `bucket.lua`
-- ARGV  1 hash of the id   2 the revision that was copied, or empty for any   3 grace (µs)
--       4 hash of the successor's id, see `x` in `bucket.lua`   5 channel of announcements
--       6 the generation that was copied: a session that was spared by a revocation since has a new one, and its
--         successor would be revoked
-- Reply {1}                done, or done before for this successor
--       {0}, {2}, {3}      absent, past its absolute timeout, revoked
--       {4}                it has another successor
--       {5, now, expires, {name, value, …}}: it was changed since it was copied; see `shown`
--
-- Example: EVALSHA … 5 session:web:{12}:s:pZ… … pZ… 3 10000000 kW… session:web:ended ""  →  {1}
local session, over = open(ARGV[1])
if not session then
  return { over }
end
if session.x then
  return { session.x == ARGV[4] and 1 or 4 }
end
if ARGV[2] ~= '' and (ARGV[2] ~= session.r or ARGV[6] ~= (session.g or '')) then
  return shown(5, (expires_of(session)))
end
leave(session, ARGV[1], ARGV[3], ARGV[4], ARGV[5])
return { 1 }
