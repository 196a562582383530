-- Gives the time of the server that has a partition.
--
-- Needs clock.lua before it.
--
-- KEYS[1]  the stream, which says which server
-- Reply    the time (ms since 1970)
-- Example  EVALSHA … 1 ns:topic:mail:{mail.0} → 1764428400000
return math.floor(now / 1000)
