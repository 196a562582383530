-- Ends the script of callers that wait: first come, first served.
--
-- A caller that finds no room joins the queue and asks again, when it is woken or its time has come; only
-- the first waiter is let through. How the queue is kept is said in core's part `wait_queue.lua`.
--
-- An id begins with 8 hexadecimal digits, the units that the waiter asks of each limit. So a waiter
-- further back is told a wait that reckons with what the first waiter takes, and with one unit for
-- every other waiter before it.
--
-- KEYS     one for each limit; then the queue and its heartbeats; all in one slot
-- ARGV[1]  the caller's id; '' does not join, and passes only when nobody waits
-- ARGV[2]  µs for which the caller is believed to be alive
-- ARGV[3]  µs that the caller will wait at most: if it must be more it does not join, and leaves
-- ARGV[4]  how many may wait
-- ARGV[5]  the channel of wake-ups
-- ARGV[6…] seven fields for each limit: see `several.lua`
-- Reply    {status, µs until asking again makes sense although nobody wakes the caller (0 when there is
--          enough and waiters stand before the caller, who have been told to come for it by now), how
--          many stand before the caller, then seven numbers for each limit: see `report`}; status 1:
--          granted, 0: waiting, 2: not queued, 3: the queue is full
-- Example  EVALSHA … 3 r:api:{a}:gcra r:api:{a}:queue r:api:{a}:heartbeats 000000019f3a 3000000
--            10000000 1000 r:api:wake  gcra 1 1 1000000 1 0 ''
--          → {0, 612000, 0, 0, 0, 612000, 612000, 0, 0, 0}
local LIMITS = 6
local count = #KEYS - 2
local queue, heartbeats = KEYS[count + 1], KEYS[count + 2]
local id, alive, max_wait, channel = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[5]

local function units_of(waiter)
  return tonumber(string.sub(waiter, 1, 8), 16) or 1
end

local before, has_place = queue_look(queue, heartbeats, channel, id, alive)
local more = 0
if before > 0 then
  more = units_of(redis.call('ZRANGE', queue, 0, 0)[1] or '') + before - 1
end
local all, wait, said, hint = look_at(count, LIMITS, more)

-- Wakes the next waiter if there is enough for it, too.
local function wake_next()
  local next = redis.call('ZRANGE', queue, 0, 0)[1]
  if not next then
    return
  end
  local units = units_of(next)
  for n = 1, count do
    if said[n][2] < units then
      return
    end
  end
  wake_up(channel, next)
end

if all and before == 0 then
  if has_place then
    queue_leave(queue, heartbeats, id)
  end
  take_from(count, LIMITS, said)
  wake_next()
  return report({ 1, 0, 0 }, count, said, true)
end
if id == '' or max_wait == 0 or wait > max_wait then
  if has_place then
    queue_leave(queue, heartbeats, id)
    if before == 0 then
      queue_wake(queue, channel, id)
    end
  end
  return report({ 2, hint, before }, count, said, false)
end
if not has_place and before >= tonumber(ARGV[4]) then
  return report({ 3, hint, before }, count, said, false)
end
queue_join(queue, heartbeats, id, alive)
return report({ 0, hint, before }, count, said, false)
