-- Part: a queue of waiters, first come, first served, with places that have heartbeats.
--
-- Needs `now` (clock.lua) and `wake_up` (wake_up.lua) before it. Two sorted sets in one slot: `queue`
-- has the waiters' ids by arrival, `heartbeats` the same ids by the time (µs) until which each is
-- believed to be alive. A waiter's id is also the name under which it is woken. With a `-` before it an id
-- stands among the heartbeats for a waiter that gave up, whose last visit may yet arrive.

-- Wakes the first waiter, unless that is `id` (the caller).
local function queue_wake(queue, channel, id)
  local head = redis.call('ZRANGE', queue, 0, 0)[1]
  if head and head ~= id then
    wake_up(channel, head)
  end
end

-- Takes silent waiters away. Gives how many stand before `id` (all, if it has no place), and whether
-- it has a place. `alive` is for how long (µs) a visit is a sign of life. A waiter that gave up stands behind
-- all, and gets no place.
local function queue_look(queue, heartbeats, channel, id, alive)
  -- The server's clock went back: a sign of life from the future came now.
  local ahead = redis.call('ZRANGEBYSCORE', heartbeats, string.format('(%.0f', now + alive), '+inf', 'LIMIT', 0, 100)
  for _, other in ipairs(ahead) do
    redis.call('ZADD', heartbeats, now + alive, other)
  end
  local silent = redis.call('ZRANGEBYSCORE', heartbeats, '-inf', now, 'LIMIT', 0, 100)
  if #silent > 0 then
    redis.call('ZREM', queue, unpack(silent))
    redis.call('ZREM', heartbeats, unpack(silent))
    queue_wake(queue, channel, id)
  end
  -- The heartbeats were evicted or deleted: waiters without one keep their places for as long as one
  -- lasts, in which those that live give signs of life, and the others are silent after it.
  local head = redis.call('ZRANGE', queue, 0, 0)[1]
  if head and head ~= id and not redis.call('ZSCORE', heartbeats, head) then
    -- Out of memory, the server refuses a script whose first write may grow.
    redis.call('PEXPIRE', queue, math.ceil(alive / 1000) + 1)
    for _, other in ipairs(redis.call('ZRANGE', queue, 0, 99)) do
      if not redis.call('ZSCORE', heartbeats, other) then
        redis.call('ZADD', heartbeats, now + alive, other)
      end
    end
    redis.call('PEXPIRE', heartbeats, math.ceil(alive / 1000) + 1)
  end
  if redis.call('ZSCORE', heartbeats, '-' .. id) then
    return redis.call('ZCARD', queue) + 1, false
  end
  local place = redis.call('ZRANK', queue, id)
  return place or redis.call('ZCARD', queue), place ~= false
end

-- Gives the caller a place behind all others, or a sign of life if it has one.
local function queue_join(queue, heartbeats, id, alive)
  -- Out of memory, the server refuses a script whose first write may grow; a waiter keeps its place.
  redis.call('PEXPIRE', heartbeats, math.ceil(alive / 1000) + 1)
  if redis.call('ZSCORE', heartbeats, '-' .. id) then
    return
  end
  if not redis.call('ZSCORE', queue, id) then
    local last = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')
    redis.call('ZADD', queue, math.max(now, (tonumber(last[2]) or 0) + 1), id)
  end
  redis.call('ZADD', heartbeats, now + alive, id)
  local ttl = math.ceil(alive / 1000) + 1
  redis.call('PEXPIRE', queue, ttl)
  redis.call('PEXPIRE', heartbeats, ttl)
end

-- Takes the caller's place away. Call `queue_wake` after it when the next may be served, too.
local function queue_leave(queue, heartbeats, id)
  redis.call('ZREM', queue, id)
  redis.call('ZREM', heartbeats, id)
end

-- Gives nothing to a visit of this waiter that arrives within so many µs.
local function queue_close(heartbeats, id, time)
  redis.call('ZADD', heartbeats, now + time, '-' .. id)
  redis.call('PEXPIRE', heartbeats, math.ceil(time / 1000) + 1)
end
