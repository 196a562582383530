-- Replaces the bytes of entries by others of the same values, where nobody has changed them meanwhile.
--
-- KEYS  1 to 5: see `bucket.lua`
-- ARGV  1 hash of the id   2 the user that was read, encoded   3 the user that is to stand
--       … for each entry: name, the value that was read, the value that is to stand
-- Reply how many were replaced
--
-- Example: EVALSHA … 5 session:web:{907}:s:pZ… … pZ… old new cart old new  →  1
local session = open(ARGV[1])
if not session then
  return 0
end
local bytes, replaced = tonumber(session.z), 0
if ARGV[2] ~= ARGV[3] and session.n == ARGV[2] then
  redis.call('HSET', KEYS[1], 'n', ARGV[3])
end
for at = 4, #ARGV, 3 do
  local name, old, new = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local stored = redis.call('HGET', KEYS[1], '.' .. name)
  local head = stored and (string.match(stored, '^E%d+:') or '=')
  if stored == (head or '') .. old then
    redis.call('HSET', KEYS[1], '.' .. name, head .. new)
    bytes = bytes + #new - #old
    replaced = replaced + 1
  end
end
redis.call('HSET', KEYS[1], 'z', text(bytes))
return replaced
