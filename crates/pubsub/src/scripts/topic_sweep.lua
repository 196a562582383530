-- Deletes from a topic that is a queue the oldest entries that every group has acknowledged. There are some only when a
-- group that had not was deleted: else the last acknowledgement deletes an entry.
--
-- Needs topic_entry.lua, topic_finish.lua and topic_floor.lua before it.
--
-- KEYS[1]  the stream
-- ARGV[1]  how many entries to delete at most    ARGV[2]  how many bytes of entries to read
-- Reply    {1 when there may be more, otherwise 0; {{entry, id}, …} of those that have a deduplication record, and are
--          left for topic_swept.lua}
-- Example  EVALSHA … 1 ns:topic:mail:{mail.0} 500 262144 → {0, {{"1764428400000-0", "order-7"}}}
local stream = KEYS[1]
local floor = floor_of(stream)
local oldest = floor and redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
if not oldest or not is_before(oldest[1], floor) then
  return { 0, {} }
end
local recorded = {}
local more = 1
for _, entry in ipairs(oldest_of(stream, tonumber(ARGV[1]), tonumber(ARGV[2]))) do
  if not is_before(entry[1], floor) then
    more = 0
    break
  end
  if (entry[2]['d'] or '0') ~= '0' then
    recorded[#recorded + 1] = { entry[1], entry[2]['i'] }
  else
    redis.call('XDEL', stream, entry[1])
  end
end
return { more, recorded }
