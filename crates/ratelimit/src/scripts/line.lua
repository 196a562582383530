-- Ends the script of those who wait: first come, first served.
--
-- Who finds no room gets a place in line and asks again; only the first in line is let through.
-- A place whose owner has been silent for too long is taken away, so a waiter that died costs the
-- others that time at most.
--
-- An id begins with 8 hexadecimal digits, the units that its owner asks of each limit. So who stands
-- further back is told a wait that reckons with what the first in line takes, and with one unit for
-- everybody else before it.
--
-- KEYS     one for each limit; then the line (sorted set of ids by arrival) and its beats (sorted
--          set of ids by the time until which they are believed to be alive, µs); all in one slot
-- ARGV[1]  the caller's id; '' does not join, and passes only when nobody waits
-- ARGV[2]  µs for which the caller is believed to be alive
-- ARGV[3]  µs that the caller will wait at most: if it must be more it does not join, and leaves
-- ARGV[4]  how many may wait
-- ARGV[5…] seven fields for each limit: see `several.lua`
-- Reply    {state, µs until asking again makes sense (0 when there is enough and others stand before
--          the caller, who have been told to come for it by now), how many stand before the caller, then seven
--          numbers for each limit: see `report`}; state 1: through, 0: waiting, 2: not joined, 3:
--          the line is full
-- Example  EVALSHA … 3 r:api:{a}:gcra r:api:{a}:line r:api:{a}:beats 000000019f3a 3000000 10000000 1000
--            gcra 1 1 1000000 1 0 ''
--          → {0, 612000, 0, 0, 0, 612000, 612000, 0, 0, 0}
local count = #KEYS - 2
local line, beats = KEYS[count + 1], KEYS[count + 2]
local id, alive, patience = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

-- The clock went back: what was seen later than now was seen now.
local ahead = redis.call('ZRANGEBYSCORE', beats, string.format('(%.0f', now + alive), '+inf', 'LIMIT', 0, 100)
for _, other in ipairs(ahead) do
  redis.call('ZADD', beats, now + alive, other)
end
local silent = redis.call('ZRANGEBYSCORE', beats, '-inf', now, 'LIMIT', 0, 100)
if #silent > 0 then
  redis.call('ZREM', line, unpack(silent))
  redis.call('ZREM', beats, unpack(silent))
end

local place = redis.call('ZRANK', line, id)
local before = place or redis.call('ZCARD', line)
local more = 0
if before > 0 then
  local first = redis.call('ZRANGE', line, 0, 0)[1]
  more = (tonumber(string.sub(first, 1, 8), 16) or 1) + before - 1
end
local all, wait, said = look_at(count, 5, more)
all = all and before == 0

local function leave()
  if place then
    redis.call('ZREM', line, id)
    redis.call('ZREM', beats, id)
  end
end

if all then
  leave()
  take_from(count, 5, said)
  return report({ 1, 0, 0 }, count, said, true)
end
if id == '' or patience == 0 or wait > patience then
  leave()
  return report({ 2, wait, before }, count, said, false)
end
if not place then
  if before >= tonumber(ARGV[4]) then
    return report({ 3, wait, before }, count, said, false)
  end
  local last = redis.call('ZRANGE', line, -1, -1, 'WITHSCORES')
  redis.call('ZADD', line, math.max(now, (tonumber(last[2]) or 0) + 1), id)
end
redis.call('ZADD', beats, now + alive, id)
local ttl = math.ceil(alive / 1000) + 1
redis.call('PEXPIRE', line, ttl)
redis.call('PEXPIRE', beats, ttl)
return report({ 0, wait, before }, count, said, false)
