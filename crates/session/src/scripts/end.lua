-- Ends an id of a session, and tells which other ids the session has: see `kin_of`.
--
-- KEYS  1 to 5: see `bucket.lua`
-- ARGV  1 hash of the id   2 hash of the user whose session it must be, or empty   3 channel of announcements
--       4 its `l`, where it is known: an id that has ended already is then good enough for its kin
-- Reply {1, x, k, kin …} ended, with `x` and `k` of `bucket.lua` or empty; {0, "", "", kin …} there is none; {2} it
--       is another user's
--
-- Example: EVALSHA … 5 session:web:{907}:s:pZ… … pZ… "" session:web:ended ""  →  {1, "", ""}
local hash, wanted = ARGV[1], ARGV[2]
local found = redis.call('HMGET', KEYS[1], 'u', 'l', 'x', 'k')
local user, lineage = found[1], found[2] or ''
if user and wanted ~= '' and wanted ~= user then
  return { 2 }
end
local reply = { 0, '', '' }
if user then
  redis.call('DEL', KEYS[1])
  announce(ARGV[3], user, hash)
  reply = { 1, found[3] or '', found[4] or '' }
else
  user, lineage = wanted, ARGV[4]
  if user ~= '' and lineage == '' and redis.call('ZSCORE', KEYS[5], 's' .. user .. hash) then
    local row = redis.call('HGET', KEYS[4], hash)
    lineage = row and string.match(row, '^%d+:%d+:%d+:[^:]*:([^:]*):') or ''
  end
end
if user ~= '' then
  unindex(user, hash)
end
if lineage == '' and reply[1] == 0 then
  -- Nobody knows of such an id.
  return reply
end
if user ~= '' and lineage ~= '' then
  for _, other in ipairs(kin_of(user, lineage)) do
    reply[#reply + 1] = other
  end
end
-- For the same call once more, should its answer be lost, and for one that stores the session and arrives late.
remember(user, hash, lineage, 0, '')
return reply
