-- Gives entries back to the group, to be delivered again after a time. Entries that the consumer does not own any more
-- are left alone.
--
-- Needs clock.lua before it.
--
-- KEYS[1]  the stream    KEYS[2]  the group's retries
-- ARGV[1]  the group    ARGV[2]  the consumer    ARGV[3]  the name of `waiting`
-- ARGV[4…] in fours: an entry, how many deliveries it has had (after one more it is another attempt's), how many of
--          them count, after which time it is due (µs)
-- Reply    how many were given back
-- Example  EVALSHA … 2 ns:topic:mail:{mail.0} ns:topic:mail:{mail.0}:retries:senders senders 0198… ~waiting
--            1764428400000-0 1 1 5000000 → 1
local released = 0
for i = 4, #ARGV, 4 do
  local id = ARGV[i]
  local row = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
  if row and row[2] == ARGV[2] and row[4] == tonumber(ARGV[i + 1]) then
    local moved = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, id, 'RETRYCOUNT', ARGV[i + 2], 'JUSTID')
    if #moved > 0 then
      redis.call('ZADD', KEYS[2], now + ARGV[i + 3], id)
      released = released + 1
    end
  end
end
return released
