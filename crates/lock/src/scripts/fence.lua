-- Part: `next_fence(key, ttl)`, the fence of a new holder, as a text. Needs `now` (clock.lua).
--
-- It is greater than the last that is remembered, and no less than the server's time: so it grows also where
-- the record of the last one is lost.
local function next_fence(key, ttl)
  local last = tonumber(redis.call('GET', key) or 0) or 0
  local fence = string.format('%.0f', math.max(last + 1, now))
  redis.call('SET', key, fence, 'PX', ttl)
  return fence
end
