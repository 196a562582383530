-- Takes permits of a semaphore, or a place in its queue. Repeated with the same token it takes nothing
-- more, and lets the lease run anew.
--
-- KEYS[1], KEYS[2]  see `semaphore.lua`
-- KEYS[3]  string: how many permits there are, if that was changed
-- KEYS[4], KEYS[5]  the queue and its heartbeats: see core's `wait_queue.lua`
-- ARGV[1]  the token of the grant, which is the waiter's id as well
-- ARGV[2]  how many permits
-- ARGV[3]  the lease (µs)
-- ARGV[4]  how many permits there are, unless that was changed
-- ARGV[5]  1: join the queue when it must wait; 0: do not
-- ARGV[6]  how many may wait
-- ARGV[7]  for how long a visit is a sign of life (µs)
-- ARGV[8]  the channel of wake-ups
-- Reply    {1, permits left}: taken
--          {2, µs until a lease runs out}: in the queue
--          {0, permits free}: not taken
--          {3, waiters}: the queue is full
--          {4, permits there are}: it asks for more than there are
-- Example  EVALSHA … 5 shop:semaphore:exports:{eu} …:{eu}:grants …:{eu}:permits …:{eu}:queue
--          …:{eu}:heartbeats 9f3a… 2 30000000 10 1 1000 3000000 shop:semaphore:exports:wake → {1, 8}
local token, wanted, alive, channel = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[7]), ARGV[8]
local queue, heartbeats = KEYS[4], KEYS[5]
prune()
local permits = tonumber(redis.call('GET', KEYS[3]) or ARGV[4])
if redis.call('HEXISTS', grants, token) == 1 then
  redis.call('ZADD', leases, now + tonumber(ARGV[3]), token)
  live_until_the_last_lease()
  return { 1, math.max(permits - permits_taken(), 0) }
end
local before, has_place = queue_look(queue, heartbeats, channel, token, alive)

local function leave()
  if has_place then
    queue_leave(queue, heartbeats, token)
    if before == 0 then
      queue_wake(queue, channel, token)
    end
  end
end

if wanted > permits then
  leave()
  return { 4, permits }
end
local free = permits - permits_taken()
if before == 0 and wanted <= free then
  set_permits(token, wanted)
  redis.call('ZADD', leases, now + tonumber(ARGV[3]), token)
  live_until_the_last_lease()
  queue_leave(queue, heartbeats, token)
  if free > wanted then
    queue_wake(queue, channel, token)
  end
  return { 1, free - wanted }
end
if ARGV[5] == '0' then
  leave()
  return { 0, math.max(free, 0) }
end
if not has_place and before >= tonumber(ARGV[6]) then
  return { 3, before }
end
queue_join(queue, heartbeats, token, alive)
-- Only the first is served by a lease that runs out; the others are woken when they are first.
local first = before == 0 and redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
return { 2, first and math.max(first - now, 0) + 1000 or alive }
