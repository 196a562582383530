-- Part: the sliding window counter: this window's count, and the last one's by the share of it
-- that the sliding window still covers.
--
-- Windows begin at whole multiples of the window since 1970. Time is counted in grains, so many µs
-- that limit × window stays below 2^53 and every comparison is exact.
--
-- Key: hash `i` (index of the current window), `c` (its count), `p` (the count before it).
-- Parameters from ARGV[p]: limit, window (grains), grain (µs).
-- Mark: the window's index.
--
-- A stored index is greater than now's when the clock went back, and when a policy of the same name had
-- shorter windows (it was changed in a deployment): then the window that had begun goes on. Nothing of it
-- outlives the key, so no wait is longer than the key's time to live.

-- Gives: allowed, units left, µs until all are back, µs until it would be allowed, and for `take`
-- the index and the count before it. Changes nothing.
local function look_counter(key, cost, p)
  local limit, window, grain = tonumber(ARGV[p]), tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2])
  local tick = math.floor(now / grain)
  local index = math.floor(tick / window)
  local state = redis.call('HMGET', key, 'i', 'c', 'p')
  local stored = tonumber(state[1])
  local count, before, is_current = 0, 0, false
  if stored and stored >= index then
    count, before, is_current = tonumber(state[2]), tonumber(state[3]), true
  elseif stored and stored == index - 1 then
    before = tonumber(state[2])
  end
  local gone = tick - index * window
  local longest = math.huge
  if stored and stored > index then
    index, gone = stored, 0
    longest = (math.max(redis.call('PTTL', key), 0) + 1) * 1000
  end
  local room = limit * window - before * (window - gone) - count * window
  local after = room - cost * window
  if after >= 0 then
    local reset = 0
    if count + cost > 0 then
      reset = (index + 2) * window * grain - now
    elseif before > 0 then
      reset = (index + 1) * window * grain - now
    end
    return true, math.floor(after / window), math.min(reset, longest), 0, index, before, is_current
  end
  local free = limit - count - cost
  local opens
  if free >= 0 then
    opens = index * window + window - math.floor(free * window / before)
  else
    opens = (index + 1) * window + window - math.floor((limit - cost) * window / count)
  end
  local last = count > 0 and index + 2 or index + 1
  local reset, wait = last * window * grain - now, opens * grain - now
  return false, math.max(math.floor(room / window), 0), math.min(reset, longest), math.min(wait, longest)
end

local function take_counter(key, cost, p, index, before, is_current)
  if is_current then
    redis.call('HINCRBY', key, 'c', cost)
    return index
  end
  local window, grain = tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2])
  redis.call('HSET', key, 'i', index, 'c', cost, 'p', before)
  redis.call('PEXPIRE', key, math.ceil(((index + 2) * window * grain - now) / 1000) + 1)
  return index
end

-- Gives units back to the window of index `mark`, if it still counts.
local function give_counter(key, cost, p, mark)
  local window, grain = tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2])
  local state = redis.call('HMGET', key, 'i', 'c', 'p')
  local stored = tonumber(state[1])
  local field, count
  if stored == mark then
    field, count = 'c', tonumber(state[2])
  elseif stored and stored == mark + 1 then
    field, count = 'p', tonumber(state[3])
  end
  if not field or now >= (mark + 2) * window * grain then
    return 0
  end
  local given = math.min(cost, count)
  if given > 0 then
    redis.call('HINCRBY', key, field, -given)
  end
  return given
end
