-- The sessions of a user that are not over.
--
-- KEYS  1 to 5: see `bucket.lua`; the first is not used
-- ARGV  1 hash of the user
-- Reply {{hash of the id, created, seen, absolute, expires, device}, …} (µs)
--
-- Example: EVALSHA … 5 session:web:{907}:s session:web:{907}:g … Vw…  →  {{"pZ…", "1700000000000000", …}}
prune()
return sessions_of(ARGV[1])
