-- Pushes items onto one end of a list and cuts the list off at the other end.
--
-- KEYS[1]   the list
-- ARGV[1]   the most items that stay
-- ARGV[2]   the key's time to live in milliseconds, or ''
-- ARGV[3]   'create': only if the key has no time to live yet; 'write': anew
-- ARGV[4]   'LPUSH' or 'RPUSH'
-- ARGV[5..] the items
--
-- Reply: the list's length.
-- Example: EVALSHA … 1 recent 100 '' '' LPUSH "\"a\"" → 1

local most = tonumber(ARGV[1])
local at_front = ARGV[4] == 'LPUSH'

-- In parts, because Lua cannot pass on more than 8,000 at once. Each part is cut off, so that a list
-- never grows far beyond its cap.
local length
for from = 5, #ARGV, 7000 do
  length = redis.call(ARGV[4], KEYS[1], unpack(ARGV, from, math.min(from + 6999, #ARGV)))
  if length > most then
    if at_front then
      redis.call('LTRIM', KEYS[1], 0, most - 1)
    else
      redis.call('LTRIM', KEYS[1], -most, -1)
    end
    length = most
  end
  if ARGV[3] == 'write' then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
  elseif ARGV[3] == 'create' then
    redis.call('PEXPIRE', KEYS[1], ARGV[2], 'NX')
  end
end
return length
