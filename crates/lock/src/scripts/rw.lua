-- Part: the state of a read/write lock. Needs `now` (clock.lua).
--
-- KEYS[1]  the writer that holds it, as `record.lua` says
-- KEYS[2]  sorted set: the readers that hold it, by the end of their leases (µs)
-- KEYS[3]  sorted set: tokens of writers that wait, by when they are taken for dead (µs)
-- A waiting reader is woken by the name KEYS[1], a waiting writer by KEYS[3].

-- For how long a visit is a sign of life of a writer that waits (µs): `WAITER_ALIVE` in Rust.
local RW_ALIVE = 3000000

-- Takes readers and waiting writers away whose time is over. Gives how many of each are left.
local function rw_counts()
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  -- The server's clock went back: a sign of life from the future came now.
  local latest = now + RW_ALIVE
  local ahead = redis.call('ZRANGEBYSCORE', KEYS[3], string.format('(%.0f', latest), '+inf', 'LIMIT', 0, 100)
  for _, writer in ipairs(ahead) do
    redis.call('ZADD', KEYS[3], string.format('%.0f', latest), writer)
  end
  return redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3])
end

-- Adds a member until `ttl` (ms) from now. The key lives as long as its last member.
local function rw_add(key, member, ttl)
  redis.call('ZADD', key, string.format('%.0f', now + ttl * 1000), member)
  if redis.call('PTTL', key) < ttl + 0 then
    redis.call('PEXPIRE', key, ttl)
  end
end
