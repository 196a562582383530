-- Stores a new session, unless its user has too many.
--
-- KEYS  1 to 5: see `bucket.lua`
--       6… sessions of the same user that may be ended for it
-- ARGV  1 hash of the id      2 idle timeout (µs)   3 lifetime (µs), or empty
--       4 absolute deadline (µs), where there is no lifetime
--       5 hash of the user, or empty                6 the user (encoded), or empty
--       7 device              8 random name of the data
--       9 most sessions of the user at once, 0 for any number
--      10 `oldest` to end the oldest, or `refuse`   11 hash of a session that does not count, or empty
--      12 most bytes of all entries                 13 number of hashes of KEYS 6…, which follow
--       … for each entry: name, time to live (µs) or empty, value
-- Reply {1, now, expires, c, a, i, m, r, u, n, d, l, x, name, value, …}: see `shown`
--       {0}            there is another session of this id
--       {6, bytes}     too large
--       {7, sessions}  too many, and refused
--       {8, hash, …}   these must be ended for it: call again with them
--
-- Example: EVALSHA … 5 session:web:{907}:s:pZ… … pZ… 1800000000 28800000000 "" "" "" "" kW… 0 refuse "" 65536 0  →  {1, …}
local hash, user, name = ARGV[1], ARGV[5], ARGV[8]
local present = redis.call('HGET', KEYS[1], 'l')
if present == name then
  -- The same call, whose reply was lost.
  local session, over = open(hash)
  if not session then
    return { over }
  end
  return shown(session, 1, redis.call('PEXPIRETIME', KEYS[1]) * 1000)
elseif present then
  return { 0 }
end

local endable = tonumber(ARGV[13])
local session = { u = user, n = ARGV[6], d = ARGV[7], l = name, i = ARGV[2], r = '1', g = '' }
local bytes = 0
for at = 14 + endable, #ARGV, 3 do
  local entry, ttl, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  bytes = bytes + #entry + #value
  session['.' .. entry] = (ttl == '' and '=' or 'E' .. text(now + ttl) .. ':') .. value
end
if bytes > tonumber(ARGV[12]) then
  return { 6, bytes }
end

prune()
local most = tonumber(ARGV[9])
if user ~= '' and most > 0 then
  local others = {}
  for _, other in ipairs(sessions_of(user)) do
    if other[1] ~= ARGV[11] then
      others[#others + 1] = other
    end
  end
  local excess = #others - most + 1
  if excess > 0 and ARGV[10] ~= 'oldest' then
    return { 7, #others }
  elseif excess > 0 then
    local keys = {}
    for at = 1, endable do
      keys[ARGV[13 + at]] = KEYS[5 + at]
    end
    table.sort(others, function(a, b) return tonumber(a[2]) < tonumber(b[2]) end)
    local wanted, missing = { 8 }, false
    for at = 1, excess do
      wanted[at + 1] = others[at][1]
      missing = missing or not keys[others[at][1]]
    end
    if missing then
      return wanted
    end
    for at = 1, excess do
      redis.call('DEL', keys[others[at][1]])
      unindex(user, others[at][1])
    end
  end
end

local absolute = ARGV[3] ~= '' and now + ARGV[3] or tonumber(ARGV[4])
local expires = expiry(tonumber(ARGV[2]), absolute)
session.c, session.t, session.m, session.a = text(now), text(now), text(now), text(absolute)
session.z = text(bytes)
if user ~= '' then
  session.g = redis.call('HGET', KEYS[2], user) or ''
  index(user, hash, now, absolute, session.g, session.d, expires)
end
for field, value in pairs(session) do
  redis.call('HSET', KEYS[1], field, value)
end
redis.call('PEXPIREAT', KEYS[1], text(expires / 1000))
return shown(session, 1, expires)
