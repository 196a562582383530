-- Keeps the entries that a consumer is working on, and gives back those that it does not know of.
--
-- Needs clock.lua before it.
--
-- The script is a sign of life also of a consumer that knows of no entry: an entry may be in a reply that is late, and
-- would else be taken for a dead consumer's, with an attempt. An entry is kept only while the consumer owns it: XCLAIM
-- alone would take it from its new owner. An entry that the consumer does not know of was in a reply that was lost, or is
-- late; giving it back costs no attempt.
--
-- KEYS[1]  the stream    KEYS[2]  the group's retries
-- ARGV[1]  the group    ARGV[2]  the consumer    ARGV[3]  the name of `waiting`
-- ARGV[4]  how long an unknown entry has been idle at least (ms)
-- ARGV[5]  before when it was delivered (ms since 1970), '' for whenever: what was read after this call was made is left
--          alone by an attempt that arrives late
-- ARGV[6…] the entries that are known
-- Reply    the known entries that the consumer does not own any more
-- Example  EVALSHA … 2 ns:topic:mail:{mail.0} ns:topic:mail:{mail.0}:retries:senders senders 0198… ~waiting 30000
--            '' 1764428400000-0 → {}
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local lost, known = {}, {}
-- This reads nothing, as no entry has a greater id. (The greatest id of all means `>` to servers.)
local beyond = '18446744073709551615-18446744073709551614'
redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, beyond)
-- This stands before the loop, which takes time: a server may count idle time by its clock of the moment. With an idle time
-- of 0 the caller wants all unknown entries, because it does not ask again; a consumer has 10,000 at most.
local idle, most = tonumber(ARGV[4]), #ARGV + (ARGV[4] == '0' and 10000 or 100)
if ARGV[5] ~= '' then
  idle = math.max(idle, math.floor(now / 1000) - ARGV[5] + 1)
end
local rows = redis.call('XPENDING', stream, group, 'IDLE', string.format('%.0f', idle), '-', '+', most, consumer)
for i = 6, #ARGV do
  local id = ARGV[i]
  known[id] = true
  local row = redis.call('XPENDING', stream, group, id, id, 1)[1]
  if row and row[2] == consumer then
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'JUSTID')
  else
    lost[#lost + 1] = id
  end
end
for _, row in ipairs(rows) do
  if not known[row[1]] then
    redis.call('XCLAIM', stream, group, ARGV[3], 0, row[1], 'RETRYCOUNT', math.max(0, row[4] - 1), 'JUSTID')
    redis.call('ZADD', KEYS[2], now, row[1])
  end
end
return lost
