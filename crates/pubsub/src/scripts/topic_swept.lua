-- Deletes an entry of a queue that every group has acknowledged, and lets go of its deduplication record.
--
-- Needs topic_entry.lua and topic_finish.lua before it.
--
-- KEYS[1]  the stream    KEYS[2]  the deduplication record of its id
-- ARGV[1]  the entry
-- Reply    1 when it was deleted, otherwise 0
-- Example  EVALSHA … 2 ns:topic:mail:{mail.0} ns:topic:mail:{mail.0}:id:order-7 1764428400000-0 → 1
if not done_by_all(KEYS[1])(ARGV[1]) then
  return 0
end
local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
local deleted = redis.call('XDEL', KEYS[1], ARGV[1])
if deleted == 1 then
  let_go(KEYS[1], ARGV[1], KEYS[2], fields_of(entry[2])['d'])
end
return deleted
