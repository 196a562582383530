-- Changes entries of a session that is there: a commit never brings a session back. A session that is over, and one
-- that would be too large, are the part `refuse.lua`'s: this one comes before all functions.
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
-- Example: EVALSHA … 5 session:web:{907}:s:pZ… … pZ… "" 65536 1 cart theme "" "dark"  →  {1, 1700000000000000, 2}
local MANY = 1000 -- how many values `unpack` is given at once
local fields, removed, set = { 'u', 'g', 'a', 'r', 'z', 'x' }, {}, { 'r', '', 'm', now, 'z', '' }
local first, grown = 5 + ARGV[4], 0
for at = 5, first - 1 do
  local name = '.' .. ARGV[at]
  fields[#fields + 1] = name
  removed[#removed + 1] = name
end
for at = first, #ARGV, 3 do
  local name, ttl, value = '.' .. ARGV[at], ARGV[at + 1], ARGV[at + 2]
  grown = grown + #name - 1 + #value
  fields[#fields + 1] = name
  set[#set + 1] = name
  set[#set + 1] = (ttl == '' and '=' or 'E' .. string.format('%.0f', now + ttl) .. ':') .. value
end
local found = redis.call('HMGET', KEYS[1], unpack(fields, 1, math.min(#fields, MANY)))
for from = MANY + 1, #fields, MANY do
  for _, stored in ipairs(redis.call('HMGET', KEYS[1], unpack(fields, from, math.min(#fields, from + MANY - 1)))) do
    found[#found + 1] = stored
  end
end

local user, absolute = found[1], tonumber(found[3])
if not (user and absolute and found[4] and found[5]) then
  return { 0 }
end
local generation = user ~= '' and redis.call('HGET', KEYS[2], user)
local is_over = now >= absolute or generation and generation ~= found[2]
if not is_over then
  if found[6] then
    return { 4 }
  elseif ARGV[2] ~= '' and ARGV[2] ~= found[4] then
    return { 5, found[4] }
  end
end

-- The bytes that the session would have.
local bytes = found[5] + grown
for at = 7, #fields do
  local stored = found[at]
  if stored then
    -- Without what stands before the value.
    local head = string.byte(stored) == 61 and 1 or #(string.match(stored, '^E%d+:') or '=')
    bytes = bytes - (#fields[at] - 1 + #stored - head)
  end
end

local function store()
  for from = 1, #removed, MANY do
    redis.call('HDEL', KEYS[1], unpack(removed, from, math.min(#removed, from + MANY - 1)))
  end
  set[2], set[6] = found[4] + 1, bytes
  for from = 1, #set, MANY do
    redis.call('HSET', KEYS[1], unpack(set, from, math.min(#set, from + MANY - 1)))
  end
  return { 1, now, set[2] }
end

local most = tonumber(ARGV[3])
if not is_over and bytes <= most then
  return store()
end
