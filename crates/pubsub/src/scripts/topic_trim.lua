-- Trims a topic that is a log: what is too old or too much, and never what some group has not acknowledged.
--
-- Needs clock.lua, topic_entry.lua and topic_finish.lua before it.
--
-- KEYS[1]  the stream
-- ARGV[1]  for how long an entry is kept (ms), -1 for ever    ARGV[2]  how many entries are kept, -1 for all
-- ARGV[3]  how many entries to trim at most
-- Reply    how many were trimmed
-- Example  EVALSHA … 1 ns:topic:mail:{0} 604800000 -1 500 → 0
local stream, keep, most, limit = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local groups = redis.pcall('XINFO', 'GROUPS', stream)
if groups.err then
  return 0
end
local length = redis.call('XLEN', stream)
local excess = most >= 0 and math.max(0, length - most) or 0
local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local until_ms = keep >= 0 and math.floor(now / 1000) - keep or -1
if not oldest or (excess == 0 and id_parts(oldest[1]) >= until_ms) then
  return 0
end

-- Everything before this may go.
local floor
for _, flat in ipairs(groups) do
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

local last
local seen = 0
for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', limit)) do
  seen = seen + 1
  local is_due = seen <= excess or id_parts(entry[1]) < until_ms
  if not is_due or (floor and not is_before(entry[1], floor)) then
    break
  end
  last = entry[1]
end
if not last then
  return 0
end
local ms, seq = id_parts(last)
return redis.call('XTRIM', stream, 'MINID', '=', string.format('%.0f-%.0f', ms, seq + 1))
