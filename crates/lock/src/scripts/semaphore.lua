-- Part: what the scripts of a semaphore share. Needs `now` (clock.lua) before it.
--
-- KEYS[1]  sorted set: the token of a grant by when its lease runs out (µs)
-- KEYS[2]  hash: the token of a grant → its permits; the empty field → their sum
-- Both expire with the last lease.
local leases, grants = KEYS[1], KEYS[2]

-- Sets how many permits a grant has. At none the grant ends.
local function set_permits(token, permits)
  local before = tonumber(redis.call('HGET', grants, token) or 0)
  if permits > 0 then
    redis.call('HSET', grants, token, permits)
  else
    redis.call('HDEL', grants, token)
    redis.call('ZREM', leases, token)
  end
  redis.call('HINCRBY', grants, '', permits - before)
end

-- Ends the grants whose leases have run out, and all of them when no lease is there: the server may have
-- evicted that key alone.
local function prune()
  if redis.call('EXISTS', leases) == 0 then
    redis.call('DEL', grants)
  end
  local over = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1000)
  for _, token in ipairs(over) do
    set_permits(token, 0)
  end
end

local function permits_taken()
  return tonumber(redis.call('HGET', grants, '') or 0)
end

-- Lets both keys live until the last lease has run out.
local function live_until_the_last_lease()
  local last = redis.call('ZRANGE', leases, -1, -1, 'WITHSCORES')
  if not last[2] then
    redis.call('DEL', leases, grants)
    return
  end
  local ends = string.format('%.0f', math.ceil(last[2] / 1000))
  redis.call('PEXPIREAT', leases, ends)
  redis.call('PEXPIREAT', grants, ends)
end
