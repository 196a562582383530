-- Part: the fixed window, which begins with the first call that finds none.
--
-- Key: hash `e` (when the window ends, µs) and `n` (units used in it).
-- Parameters from ARGV[p]: limit, window (µs).
-- Mark: the window's end.

-- Gives: allowed, units left, µs until all are back, µs until it would be allowed, and for `take`
-- the window's end, if one has begun. Changes nothing.
local function look_fixed(key, cost, p)
  local limit, window = tonumber(ARGV[p]), tonumber(ARGV[p + 1])
  local state = redis.call('HMGET', key, 'e', 'n')
  local ends, used = tonumber(state[1]), 0
  if ends and now < ends then
    used = tonumber(state[2])
  else
    ends = nil
  end
  local left = limit - used - cost
  if left < 0 then
    local wait = ends and ends - now or window
    return false, math.max(limit - used, 0), wait, wait
  end
  if ends then
    return true, left, ends - now, 0, ends
  end
  return true, left, cost > 0 and window or 0, 0
end

local function take_fixed(key, cost, p, ends)
  if ends then
    redis.call('HINCRBY', key, 'n', cost)
    return ends
  end
  local window = tonumber(ARGV[p + 1])
  ends = now + window
  redis.call('HSET', key, 'e', ends, 'n', cost)
  redis.call('PEXPIRE', key, math.ceil(window / 1000) + 1)
  return ends
end

-- Gives units of the window back that ends at `mark`, if it is the one that runs.
local function give_fixed(key, cost, p, mark)
  local state = redis.call('HMGET', key, 'e', 'n')
  if tonumber(state[1]) ~= mark or now >= mark then
    return 0
  end
  local given = math.min(cost, tonumber(state[2]))
  if given > 0 then
    redis.call('HINCRBY', key, 'n', -given)
  end
  return given
end
