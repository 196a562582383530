-- Part: `next_fence(key, ttl)`, the fence of a new holder, and the time as `since` in `record.lua`, as texts. Needs
-- clock.lua.
--
-- It is greater than the last that is remembered, and no less than the server's time: so it grows also where
-- the record of the last one is lost.
local function next_fence(key, ttl)
  local since = time[1] .. string.sub('000000', #time[2] + 1) .. time[2]
  local last = redis.call('SET', key, since, 'PX', ttl, 'GET')
  -- Decimals of the same length compare as texts.
  if not last or #last == #since and last < since then
    return since, since
  end
  last = tonumber(last) or 0
  if last < now then
    return since, since
  end
  -- The server's clock went back, or two are given within a microsecond.
  local fence = string.format('%.0f', last + 1)
  redis.call('SET', key, fence, 'PX', ttl)
  return fence, since
end
