-- Trims a topic that is a log: what is too old or too much, and never what some group has not acknowledged.
--
-- Needs clock.lua, topic_entry.lua, topic_finish.lua and topic_floor.lua before it.
--
-- A script must not hold the server up: by age the server trims by ids alone; by number entries are read, of which
-- not many bytes at a time come into the script.
--
-- KEYS[1]  the stream
-- ARGV[1]  for how long an entry is kept (ms), -1 for ever    ARGV[2]  how many entries are kept, -1 for all
-- ARGV[3]  how many entries to trim at most    ARGV[4]  how many bytes of entries to read
-- Reply    1 when there may be more to trim, otherwise 0
-- Example  EVALSHA … 1 ns:topic:mail:{mail.0} 604800000 -1 500 262144 → 0
local stream, keep, most, limit = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local floor = floor_of(stream)
local trimmed = 0

if keep >= 0 then
  local until_id = string.format('%.0f-0', math.max(0, math.floor(now / 1000) - keep))
  if floor and is_before(floor, until_id) then
    until_id = floor
  end
  trimmed = redis.call('XTRIM', stream, 'MINID', '~', until_id, 'LIMIT', limit)
  if trimmed == 0 then
    -- No more than a part of the stream's first node.
    redis.call('XTRIM', stream, 'MINID', '=', until_id)
  end
end

local excess = most >= 0 and math.max(0, redis.call('XLEN', stream) - most) or 0
if excess > 0 then
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not floor or is_before(oldest[1], floor) then
    local entries = oldest_of(stream, math.min(excess, limit), tonumber(ARGV[4]))
    local last
    local seen = 0
    for _, entry in ipairs(entries) do
      if floor and not is_before(entry[1], floor) then
        break
      end
      seen = seen + 1
      last = entry[1]
    end
    local ms, seq = id_parts(last)
    redis.call('XTRIM', stream, 'MINID', '=', string.format('%.0f-%.0f', ms, seq + 1))
    if seen == #entries and seen < excess then
      trimmed = trimmed + seen
    end
  end
end
return trimmed > 0 and 1 or 0
