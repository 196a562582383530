-- Part: the bucketed window: the window in slices, the oldest counted whole, so that no window
-- ever holds more than the limit.
--
-- A window covers parts of at most slices + 1 slices of time; their sum is kept beside them.
--
-- Key: hash `i` (index of the newest slice), `s` (the sum), and one field for each of the
-- slices + 1 slots, in which slice x has slot x mod (slices + 1).
-- Parameters from ARGV[p]: limit, slice (µs), slices.
-- Mark: the slice's index.
--
-- A stored index is greater than now's when the clock went back, and when a policy of the same name had
-- shorter slices (it was changed in a deployment): then the slice that had begun goes on. Nothing of it
-- outlives the key, so no wait is longer than the key's time to live.

-- The contents of the slots of the slices from `first` to `last`, as a list.
local function slots_of_bucketed(key, first, last, slots)
  local fields = {}
  for x = first, last do
    fields[#fields + 1] = x % slots
  end
  return redis.call('HMGET', key, unpack(fields))
end

-- Gives: allowed, units left, µs until all are back, µs until it would be allowed, and for `take`
-- the slice's index, the newest index stored and the sum of what still counts. Changes nothing.
local function look_bucketed(key, cost, p)
  local limit, slice, slots = tonumber(ARGV[p]), tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2]) + 1
  local index = math.floor(now / slice)
  local state = redis.call('HMGET', key, 'i', 's')
  local stored, sum = tonumber(state[1]), tonumber(state[2])
  local longest = math.huge
  if not stored or index - stored >= slots then
    stored, sum = nil, 0
  elseif stored > index then
    index = stored
    longest = (math.max(redis.call('PTTL', key), 0) + 1) * 1000
  elseif stored < index then
    for _, count in ipairs(slots_of_bucketed(key, stored + 1, index, slots)) do
      sum = sum - (tonumber(count) or 0)
    end
  end
  local left = limit - sum - cost
  if left >= 0 then
    local last = cost > 0 and index or stored
    local reset = sum + cost > 0 and (last + slots) * slice - now or 0
    return true, left, math.min(reset, longest), 0, index, stored, sum
  end
  -- Slices leave from the oldest on, until enough has left.
  local opens, excess = index, -left
  for n, count in ipairs(slots_of_bucketed(key, index - slots + 1, stored, slots)) do
    excess = excess - (tonumber(count) or 0)
    if excess <= 0 then
      opens = index - slots + n
      break
    end
  end
  local reset, wait = (stored + slots) * slice - now, (opens + slots) * slice - now
  return false, math.max(limit - sum, 0), math.min(reset, longest), math.min(wait, longest)
end

local function take_bucketed(key, cost, p, index, stored, sum)
  local slice, slots = tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2]) + 1
  local slot = index % slots
  if stored == index then
    redis.call('HINCRBY', key, slot, cost)
    redis.call('HINCRBY', key, 's', cost)
    return index
  end
  local changes = { 'i', index, 's', sum + cost, slot, cost }
  if stored then
    for x = stored + 1, index - 1 do
      changes[#changes + 1] = x % slots
      changes[#changes + 1] = 0
    end
  else
    redis.call('DEL', key)
  end
  redis.call('HSET', key, unpack(changes))
  redis.call('PEXPIRE', key, math.ceil(((index + slots) * slice - now) / 1000) + 1)
  return index
end

-- Gives units back to the slice of index `mark`, if it still counts.
local function give_bucketed(key, cost, p, mark)
  local slice, slots = tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2]) + 1
  local state = redis.call('HMGET', key, 'i', mark % slots)
  local stored = tonumber(state[1])
  if not stored or mark > stored or stored - mark >= slots or now >= (mark + slots) * slice then
    return 0
  end
  local given = math.min(cost, tonumber(state[2]) or 0)
  if given > 0 then
    redis.call('HINCRBY', key, mark % slots, -given)
    redis.call('HINCRBY', key, 's', -given)
  end
  return given
end
