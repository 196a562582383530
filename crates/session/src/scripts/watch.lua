-- Tells how a session stands, and does not use it.
--
-- KEYS  1 to 5: see `bucket.lua`
-- ARGV  1 hash of the id
-- Reply {1, now, expires, x}, with `x` of `bucket.lua` or empty; {0}, {2}, {3} as `load.lua`
--
-- Example: EVALSHA … 5 session:web:{907}:s:pZ… … pZ…  →  {1, "1700000000000000", "1700001800000000", ""}
local session, over, successor = open(ARGV[1])
if not session then
  if over == 3 and successor ~= '' then
    -- A revocation of the others, which spared the successor, or of all: the successor tells.
    return { 1, text(now), text(now), successor }
  end
  return { over }
end
return { 1, text(now), text(math.min(expires_of(session), tonumber(session.a))), session.x or '' }
