-- Stores a new session, unless its user has too many.
--
-- KEYS  1 to 5: see `bucket.lua`   6 the session of the same user whose place it takes, where there is one
-- ARGV  1 hash of the id      2 idle timeout (µs)   3 lifetime (µs), or empty
--       4 absolute deadline (µs), where there is no lifetime
--       5 hash of the user, or empty                6 the user (encoded), or empty
--       7 device              8 random name of the data
--       9 most sessions of the user at once, 0 for any number
--      10 `oldest` where the oldest are to end for it, or `refuse`
--      11 hash of a session that does not count, or empty
--      12 most bytes of all entries                 13 hashes of its named indexes, see `bucket.lua`
--      14 `=` and the generation of the session of the same user whose place it takes; empty without one
--       … for each entry: name, time to live (µs) or empty, value
-- Reply {1, excess, now, expires, {name, value, …}}: see `shown`. `excess`
--                      are the hashes of the user's oldest sessions, with a space between them, that are
--                      to end once this one has taken its place: see `end.lua`. A session that is being
--                      rotated is one, with two ids
--       {0}            there is another session of this id
--       {2}, {3}       it was stored before, and is over: see `open`; or the user's sessions were revoked
--                      since the one was loaded whose place it takes; or that one has ended
--       {4}            the one whose place it takes has another successor
--       {6, bytes}     too large
--       {7, sessions}  too many, and refused
--
-- Example: EVALSHA … 5 session:web:{907}:s:pZ… … pZ… 1800000000 28800000000 "" "" "" "" kW… 0 refuse "" 65536 "" ""  →  {1, …}
local hash, user, name = ARGV[1], ARGV[5], ARGV[8]
local present = redis.call('HGET', KEYS[1], 'l')
if present and present ~= name then
  return { 0 }
elseif not present and redis.call('HEXISTS', KEYS[4], hash) == 1 then
  -- It was stored, and has ended: this call was repeated, and arrives late.
  return { 3 }
end

local session = { u = user, n = ARGV[6], d = ARGV[7], l = name, i = ARGV[2], r = '1', g = '', k = ARGV[13] }
local bytes = 0
for at = 15, #ARGV, 3 do
  local entry, ttl, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  bytes = bytes + #entry + #value
  session['.' .. entry] = (ttl == '' and '=' or 'E' .. text(now + ttl) .. ':') .. value
end
if bytes > tonumber(ARGV[12]) then
  return { 6, bytes }
end

if KEYS[6] and not present then
  -- A sign-out ends all ids of a session that there are: none may come after it.
  local taken = redis.call('HMGET', KEYS[6], 'c', 'x')
  if not taken[1] or taken[2] then
    return { taken[1] and 4 or 3 }
  end
end

prune()
local generation = user ~= '' and redis.call('HGET', KEYS[2], user) or ''
if ARGV[14] ~= '' and generation ~= '' and ARGV[14] ~= '=' .. generation
  and not (KEYS[6] and redis.call('HGET', KEYS[6], 'g') == generation) then
  -- It would outlive the revocation. One that the revocation has spared is copied anew: see `retire.lua`.
  return { 3 }
end
local most, excess = tonumber(ARGV[9]), {}
if user ~= '' and most > 0 then
  local others, by_lineage = {}, {}
  for _, other in ipairs(sessions_of(user)) do
    local id, created, lineage = other[1], tonumber(other[2]), other[7]
    local known = lineage ~= '' and by_lineage[lineage]
    if id == ARGV[11] or id == hash or lineage == name then
      -- It is this one, or the one whose place it takes.
    elseif known then
      known.created = math.max(known.created, created)
      known.ids = known.ids .. ' ' .. id
    else
      known = { created = created, ids = id }
      by_lineage[lineage] = known
      others[#others + 1] = known
    end
  end
  if #others >= most and ARGV[10] ~= 'oldest' and not present then
    return { 7, #others }
  end
  table.sort(others, function(a, b) return a.created < b.created end)
  for at = 1, #others - most + 1 do
    excess[at] = others[at].ids
  end
end

local function stored(expires)
  local reply = shown(1, expires)
  table.insert(reply, 2, table.concat(excess, ' '))
  return reply
end

if present then
  -- The same call, whose reply was lost.
  local over
  session, over = open(hash)
  if not session then
    return { over }
  end
  return stored((expires_of(session)))
end

local absolute = ARGV[3] ~= '' and now + ARGV[3] or tonumber(ARGV[4])
local expires = expiry(tonumber(ARGV[2]), absolute)
session.c, session.t, session.m, session.a = text(now), text(now), text(now), text(absolute)
session.z = text(bytes)
if user ~= '' then
  session.g = generation
  index(session, hash, expires, true)
end
local flat = {}
for field, value in pairs(session) do
  flat[#flat + 1] = field
  flat[#flat + 1] = value
end
for from = 1, #flat, 1000 do
  redis.call('HSET', KEYS[1], unpack(flat, from, math.min(#flat, from + 999)))
end
redis.call('PEXPIREAT', KEYS[1], expires / 1000)
return stored(expires)
