-- Acknowledges entries. In a topic that is a queue an entry is deleted once every group has; then its deduplication
-- record is deleted, or the message that it keeps is published.
--
-- Needs topic_ack_fast.lua, topic_entry.lua and topic_finish.lua before it.
--
-- KEYS[1]  the stream    KEYS[2…] the deduplication records of the ids of the first entries
-- ARGV[1]  the group    ARGV[2]  retention: `queue` or `log`    ARGV[3]  how many entries (a hundred at most)
-- ARGV[4]  how many of them have a record: they come first    ARGV[5…] the entries, those without a record in their order,
--          and after them the fields `d` of those that have a record
-- Reply    how many of them were pending
-- Example  EVALSHA … 2 ns:topic:mail:{mail.0} ns:topic:mail:{mail.0}:id:order-7 senders queue 2 1 1764428400000-3
--            1764428400000-0 1 → 2
local was_pending = {}
for i = 1, recorded do
  was_pending[i] = redis.call('XACK', stream, group, ARGV[4 + i])
  acknowledged = acknowledged + was_pending[i]
end
if retention ~= 'queue' then
  return acknowledged
end
local is_done = done_by_all(stream)
local done = {}
for i = 1, count do
  if is_done(ARGV[4 + i]) then
    done[#done + 1] = ARGV[4 + i]
  elseif i <= recorded then
    was_pending[i] = 0
  end
end
if #done > 0 then
  redis.call('XDEL', stream, unpack(done))
end
for i = 1, recorded do
  if was_pending[i] == 1 then
    let_go(stream, ARGV[4 + i], KEYS[1 + i], ARGV[4 + count + i])
  end
end
return acknowledged
