-- Part: leases held at the same time.
--
-- Key: sorted set of lease ids by the time they run out (µs). A lease counts until then.
-- Parameters from ARGV[p]: limit, lease (µs), the new lease's id.
-- Mark: when the lease runs out.

-- Gives: allowed, places left, µs until all are back, µs until it would be allowed at the latest
-- (a lease that is released sooner opens a place sooner). Changes nothing.
local function look_concurrency(key, cost, p)
  local limit, lease = tonumber(ARGV[p]), tonumber(ARGV[p + 1])
  local after_now = string.format('(%.0f', now)
  local used = redis.call('ZCOUNT', key, after_now, '+inf')
  local left = limit - used - cost
  local reset = cost > 0 and lease or 0
  if left < 0 or cost == 0 then
    local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
    reset = last[2] and math.max(last[2] - now, 0) or 0
  end
  if left >= 0 then
    return true, left, reset, 0
  end
  local opens = redis.call('ZRANGEBYSCORE', key, after_now, '+inf', 'WITHSCORES', 'LIMIT', -left - 1, 1)
  return false, math.max(limit - used, 0), reset, opens[2] and opens[2] - now or lease
end

-- Lets the set live until its last lease has run out, whatever lengths they have.
local function keep_concurrency(key)
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
  if last[2] then
    redis.call('PEXPIRE', key, math.max(math.ceil((last[2] - now) / 1000), 0) + 1)
  end
end

local function take_concurrency(key, cost, p)
  local ends = now + tonumber(ARGV[p + 1])
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  redis.call('ZADD', key, ends, ARGV[p + 2])
  keep_concurrency(key)
  return ends
end
