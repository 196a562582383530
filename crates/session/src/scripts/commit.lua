-- Changes entries of a session that is there: a commit never brings a session back.
--
-- KEYS  1 to 5: see `bucket.lua`
-- ARGV  1 hash of the id   2 the revision that must stand, or empty   3 most bytes of all entries
--       4 number of names to remove, which follow
--       … for each entry to set: name, time to live (µs) or empty, value
-- Reply {1, now, revision}   done
--       {0}, {2}, {3}        absent, past its absolute timeout, revoked
--       {4}                  it was rotated: there is another now
--       {5, revision}        another revision stands
--       {6, bytes}           it would be too large
--
-- Example: EVALSHA … 5 session:web:{907}:s:pZ… … pZ… "" 65536 1 cart theme "" "dark"  →  {1, "1700000000000000", 2}
local session, over = open(ARGV[1])
if not session then
  return { over }
end
if session.x then
  return { 4 }
end
if ARGV[2] ~= '' and ARGV[2] ~= session.r then
  return { 5, session.r }
end

local removed, set = {}, {}
local grown = 0
local first = 5 + ARGV[4]
for at = 5, first - 1 do
  removed[#removed + 1] = ARGV[at]
end
for at = first, #ARGV, 3 do
  local name, ttl, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  grown = grown + #name + #value
  set[#set + 1] = name
  set[#set + 1] = (ttl == '' and '=' or 'E' .. text(now + ttl) .. ':') .. value
end

-- The bytes that the session would have, of `before` now.
local function after(before)
  local bytes = before + grown
  for _, name in ipairs(removed) do
    bytes = bytes - size(name, redis.call('HGET', KEYS[1], '.' .. name))
  end
  for at = 1, #set, 2 do
    bytes = bytes - size(set[at], redis.call('HGET', KEYS[1], '.' .. set[at]))
  end
  return bytes
end

local most = tonumber(ARGV[3])
local bytes = after(tonumber(session.z))
if bytes > most then
  -- Entries that have expired need no room.
  local left = expire_entries(session)
  redis.call('HSET', KEYS[1], 'z', text(left))
  bytes = after(left)
end
if bytes > most then
  return { 6, bytes }
end
for _, name in ipairs(removed) do
  redis.call('HDEL', KEYS[1], '.' .. name)
end
for at = 1, #set, 2 do
  redis.call('HSET', KEYS[1], '.' .. set[at], set[at + 1])
end
local revision = redis.call('HINCRBY', KEYS[1], 'r', 1)
redis.call('HSET', KEYS[1], 'm', text(now), 'z', text(bytes))
return { 1, text(now), revision }
