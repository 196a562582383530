-- Ends a session.
--
-- KEYS  1 to 5: see `bucket.lua`
-- ARGV  1 hash of the id   2 hash of the user whose session it must be, or empty   3 channel of announcements
-- Reply {1, x, p} ended, with `x` and `p` of `bucket.lua` or empty; {0} there is none; {2} it is another user's
--
-- Example: EVALSHA … 5 session:web:{907}:s:pZ… … pZ… "" session:web:ended  →  {1, "", ""}
local found = redis.call('HMGET', KEYS[1], 'u', 'x', 'p')
local user = found[1]
if not user then
  if ARGV[2] ~= '' then
    unindex(ARGV[2], ARGV[1])
  end
  return { 0 }
end
if ARGV[2] ~= '' and ARGV[2] ~= user then
  return { 2 }
end
redis.call('DEL', KEYS[1])
if user ~= '' then
  unindex(user, ARGV[1])
end
announce(ARGV[3], user, ARGV[1])
return { 1, found[2] or '', found[3] or '' }
