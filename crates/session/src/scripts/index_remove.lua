-- Forgets sessions of a named index that have ended.
--
-- KEYS  1 index: see `index_add.lua`
-- ARGV  `<tag>:<hash of the id>`, …
-- Reply how many there were
--
-- Example: EVALSHA … 1 session:web:{Vw…}:indexed 907:pZ…  →  1
local removed = 0
for _, session in ipairs(ARGV) do
  removed = removed + redis.call('HDEL', KEYS[1], session)
end
return removed
