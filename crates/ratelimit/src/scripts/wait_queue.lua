-- Ends the script of callers that wait: first come, first served.
--
-- A caller that finds no room joins the queue and asks again; only the first waiter is let through. A
-- waiter that has been silent for too long is taken out, so a waiter that died costs the others that
-- time at most.
--
-- An id begins with 8 hexadecimal digits, the units that the waiter asks of each limit. So a waiter
-- further back is told a wait that reckons with what the first waiter takes, and with one unit for
-- every other waiter before it.
--
-- KEYS     one for each limit; then the queue (sorted set of ids by arrival) and the heartbeats
--          (sorted set of ids by the time until which they are believed to be alive, µs); all in one
--          slot
-- ARGV[1]  the caller's id; '' does not join, and passes only when nobody waits
-- ARGV[2]  µs for which the caller is believed to be alive
-- ARGV[3]  µs that the caller will wait at most: if it must be more it does not join, and leaves
-- ARGV[4]  how many may wait
-- ARGV[5…] seven fields for each limit: see `several.lua`
-- Reply    {status, µs until asking again makes sense (0 when there is enough and waiters stand before
--          the caller, who have been told to come for it by now), how many stand before the caller,
--          then seven numbers for each limit: see `report`}; status 1: granted, 0: waiting, 2: not
--          queued, 3: the queue is full
-- Example  EVALSHA … 3 r:api:{a}:gcra r:api:{a}:queue r:api:{a}:heartbeats 000000019f3a 3000000
--            10000000 1000  gcra 1 1 1000000 1 0 ''
--          → {0, 612000, 0, 0, 0, 612000, 612000, 0, 0, 0}
local count = #KEYS - 2
local queue, heartbeats = KEYS[count + 1], KEYS[count + 2]
local id, alive, max_wait = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

-- The clock went back: what was seen later than now was seen now.
local ahead = redis.call('ZRANGEBYSCORE', heartbeats, string.format('(%.0f', now + alive), '+inf', 'LIMIT', 0, 100)
for _, other in ipairs(ahead) do
  redis.call('ZADD', heartbeats, now + alive, other)
end
local silent = redis.call('ZRANGEBYSCORE', heartbeats, '-inf', now, 'LIMIT', 0, 100)
if #silent > 0 then
  redis.call('ZREM', queue, unpack(silent))
  redis.call('ZREM', heartbeats, unpack(silent))
end

local rank = redis.call('ZRANK', queue, id)
local before = rank or redis.call('ZCARD', queue)
local more = 0
if before > 0 then
  local first = redis.call('ZRANGE', queue, 0, 0)[1]
  more = (tonumber(string.sub(first, 1, 8), 16) or 1) + before - 1
end
local all, wait, said = look_at(count, 5, more)
all = all and before == 0

local function leave()
  if rank then
    redis.call('ZREM', queue, id)
    redis.call('ZREM', heartbeats, id)
  end
end

if all then
  leave()
  take_from(count, 5, said)
  return report({ 1, 0, 0 }, count, said, true)
end
if id == '' or max_wait == 0 or wait > max_wait then
  leave()
  return report({ 2, wait, before }, count, said, false)
end
if not rank then
  if before >= tonumber(ARGV[4]) then
    return report({ 3, wait, before }, count, said, false)
  end
  local last = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')
  redis.call('ZADD', queue, math.max(now, (tonumber(last[2]) or 0) + 1), id)
end
redis.call('ZADD', heartbeats, now + alive, id)
local ttl = math.ceil(alive / 1000) + 1
redis.call('PEXPIRE', queue, ttl)
redis.call('PEXPIRE', heartbeats, ttl)
return report({ 0, wait, before }, count, said, false)
