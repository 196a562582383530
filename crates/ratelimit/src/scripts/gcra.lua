-- Part: GCRA (the generic cell rate algorithm; a token bucket is its other face) and, with
-- a max_delay, the leaky bucket as a queue.
--
-- A unit costs weight/share µs, in lowest terms, and everything is counted in 1/share µs: exact,
-- also where a window does not divide evenly. The debt is what has been taken and has not drained;
-- it drains at `share` a µs and may be as large as units × weight. With a max_delay it may be larger
-- by that many µs, and a call that makes it so has to wait for its turn, until the rest fits. Turns
-- are told in whole µs; what would have drained between the exact turn and the whole µs of an empty
-- bucket is lost, or turns could lie closer together than the rate allows.
--
-- Key: string, the time at which the debt has drained: `µs`, or `µs:part` with parts of 1/share µs,
-- or `µs:part:given` after refunds, with the µs that they gave back (see `give_gcra`).
-- Parameters from ARGV[p]: burst (units), weight, share, max_delay (µs).
-- Mark: the time at which the debt has drained after this call, its part, and `given`.

-- The debt, and the µs given back by refunds.
local function debt_of_gcra(stored, share)
  if not stored then
    return 0, 0
  end
  local whole, part, given = tonumber(stored), 0, 0
  if not whole then
    local a, b, c = string.match(stored, '^(%d+):(%d+):?(%d*)$')
    whole, part, given = tonumber(a), tonumber(b), tonumber(c) or 0
    if part >= share then
      -- Of another quota, with other shares.
      whole, part = whole + 1, 0
    end
  end
  return math.max((whole - now) * share + part, 0), given
end

local function text_of_gcra(debt, share, given)
  local whole = math.floor(debt / share)
  local part = debt - whole * share
  whole = whole + now
  if given > 0 then
    return string.format('%.0f:%.0f:%.0f', whole, part, given), whole, part
  elseif part > 0 then
    return string.format('%.0f:%.0f', whole, part), whole, part
  end
  return whole, whole, part
end

-- Gives: allowed, units left, µs until all are back; µs until it would be allowed, or when it is,
-- until it may go; and for `take` the debt after it and the µs given back. Changes nothing.
local function look_gcra(key, cost, p)
  local weight, share = tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2])
  local debt, given = debt_of_gcra(redis.call('GET', key), share)
  local capacity = ARGV[p] * weight
  local room = capacity + ARGV[p + 3] * share
  local after = debt + cost * weight
  if after > room then
    local left = math.max(math.floor((room - debt) / weight), 0)
    return false, left, math.ceil(debt / share), math.ceil((after - room) / share)
  end
  local wait = 0
  if after > capacity then
    wait = math.ceil((after - capacity) / share)
    after = math.max(after, wait * share + math.min(cost * weight, capacity))
  end
  return true, math.floor((room - after) / weight), math.ceil(after / share), wait, after, given
end

local function take_gcra(key, cost, p, after, given)
  local share = tonumber(ARGV[p + 2])
  local text, whole, part = text_of_gcra(after, share, given)
  local ttl = math.ceil(after / share / 1000) + 1
  if given > 0 then
    ttl = math.max(ttl, redis.call('PTTL', key))
  end
  redis.call('SET', key, text, 'PX', ttl)
  return whole, part, given
end

-- Gives back what has not drained of a call that left the debt draining at `mark`.
--
-- Units drain in the order in which they were taken, so of this call there are left at most the µs
-- from now to `mark`, less what was given back since, which may have stood before it. More must
-- not be given: it would be given twice. What was given back is remembered in the key, which then
-- lives as long as it would have without the refund, because receipts may.
--
-- With a max_delay others have been told when to go: then only the last place in the queue can be
-- given back, since any other would be taken by two.
local function give_gcra(key, cost, p, mark, part, given_then)
  local weight, share, max_delay = tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2]), tonumber(ARGV[p + 3])
  local stored = redis.call('GET', key)
  local debt, given = debt_of_gcra(stored, share)
  local left = (mark - now) * share + part
  if left <= 0 then
    return 0
  end
  if max_delay > 0 then
    if left ~= debt then
      return 0
    end
  else
    left = left - (given - given_then) * share
  end
  local back = math.min(cost * weight, left, debt)
  if back <= 0 then
    return 0
  end
  local text = text_of_gcra(debt - back, share, given + math.ceil(back / share))
  redis.call('SET', key, text, 'KEEPTTL')
  return math.ceil(back / weight)
end
