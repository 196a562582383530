-- Part: what no group needs any more. Needs topic_entry.lua and topic_finish.lua before it.

-- Gives the id before which every group has acknowledged everything; nil without groups.
local function floor_of(stream)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  local floor
  for _, flat in ipairs(groups.err and {} or groups) do
    local group = fields_of(flat)
    local first = redis.call('XPENDING', stream, group['name'])[2]
    if not first then
      local ms, seq = id_parts(group['last-delivered-id'])
      first = string.format('%.0f-%.0f', ms, seq + 1)
    end
    if not floor or is_before(first, floor) then
      floor = first
    end
  end
  return floor
end

-- Gives the oldest entries, of which not more are read than have `budget` bytes together, and one beyond that.
local function oldest_of(stream, most, budget)
  local entries, from, count = {}, '-', 1
  while #entries < most and budget > 0 do
    local some = redis.call('XRANGE', stream, from, '+', 'COUNT', math.min(count, most - #entries))
    local size = 0
    for _, entry in ipairs(some) do
      local bytes = 64
      for _, text in ipairs(entry[2]) do
        bytes = bytes + #text
      end
      size = math.max(size, bytes)
      budget = budget - bytes
      entries[#entries + 1] = { entry[1], fields_of(entry[2]) }
      entries[#entries][2]['m'] = nil
    end
    if #some < count then
      break
    end
    local ms, seq = id_parts(some[#some][1])
    from = string.format('%.0f-%.0f', ms, seq + 1)
    -- As many as there is room for, should they be as large as the largest of these.
    count = math.max(1, math.min(count * 4, math.floor(budget / size)))
  end
  return entries
end
