-- Whether a session still stands under a named index, and was not revoked by it.
--
-- KEYS  1 index: see `index_add.lua`
-- ARGV  1 `<tag>:<hash of the id>`
-- Reply 1 yes, 0 no
--
-- Example: EVALSHA … 1 session:web:{Vw…}:indexed 907:pZ…  →  1
local deadline = redis.call('HGET', KEYS[1], ARGV[1])
return deadline and deadline ~= '!' and 1 or 0
