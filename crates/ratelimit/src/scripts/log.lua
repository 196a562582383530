-- Part: the sliding log: the time of every unit, newest first. Exact.
--
-- A unit of time t counts until t + window. Entries never go down in time: a clock that went back
-- stands still at the newest entry until it has caught up.
--
-- Key: list of times (µs), newest first, at most `limit` of them.
-- Parameters from ARGV[p]: limit, window (µs).
-- Mark: the entries' time.

-- How many of a list's `length` entries have left the window: looks from the oldest on in steps
-- that double, then halves the gap. One look when none has, two when one has.
local function gone_from_log(key, length, edge)
  local step, gone = 1, 0
  while gone < length and tonumber(redis.call('LINDEX', key, -math.min(step, length))) <= edge do
    gone = math.min(step, length)
    step = step * 2
  end
  local low, high = gone, math.min(step, length + 1)
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if tonumber(redis.call('LINDEX', key, -middle)) <= edge then
      low = middle
    else
      high = middle
    end
  end
  return low
end

-- Gives: allowed, units left, µs until all are back, µs until it would be allowed, and for `take`
-- the clamped time, the length and how many entries have left the window. Changes nothing.
local function look_log(key, cost, p)
  local limit, window = tonumber(ARGV[p]), tonumber(ARGV[p + 1])
  local newest = tonumber(redis.call('LINDEX', key, 0))
  if not newest then
    return true, limit - cost, cost > 0 and window or 0, 0, now, 0, 0
  end
  local at = math.max(now, newest)
  local edge = at - window
  local opens = cost > 0 and tonumber(redis.call('LINDEX', key, limit - cost))
  if opens and opens > edge then
    local left = 0
    if cost > 1 then
      local length = redis.call('LLEN', key)
      left = math.max(limit - length + gone_from_log(key, length, edge), 0)
    end
    return false, left, newest + window - now, opens + window - now
  end
  local length = redis.call('LLEN', key)
  local gone = gone_from_log(key, length, edge)
  local last = cost > 0 and at or newest
  local reset = (cost > 0 or gone < length) and last + window - now or 0
  return true, math.max(limit - length + gone - cost, 0), reset, 0, at, length, gone
end

local function take_log(key, cost, p, at, length, gone)
  if gone >= length then
    redis.call('DEL', key) -- `LTRIM key 0 -1` would keep all.
  elseif gone > 0 then
    redis.call('LTRIM', key, 0, length - gone - 1)
  end
  if cost == 1 then
    redis.call('LPUSH', key, at)
  else
    local times = {}
    for i = 1, math.min(cost, 1000) do
      times[i] = at
    end
    for left = cost, 1, -1000 do
      redis.call('LPUSH', key, unpack(times, 1, math.min(left, 1000)))
    end
  end
  redis.call('PEXPIRE', key, math.ceil((at + tonumber(ARGV[p + 1]) - now) / 1000) + 1)
  return at
end

-- Gives units of time `mark` back, as far as they are still in the window.
local function give_log(key, cost, p, mark)
  if mark + tonumber(ARGV[p + 1]) <= now then
    return 0
  end
  return redis.call('LREM', key, cost, mark)
end
