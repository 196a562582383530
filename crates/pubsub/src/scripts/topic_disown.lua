-- Gives a partition up in order: the entry that was next, or was begun, has had one attempt less, as the next owner
-- counts one more. Needs topic_fence.lua before it.
--
-- KEYS[1]  the stream    KEYS[2]  the owner's token
-- ARGV[1]  the group    ARGV[2]  the consumer    ARGV[3]  the caller's token
-- Reply    1, or -1 for a caller that does not own the partition
-- Example  EVALSHA … 2 ns:topic:mail:{mail.0} ns:topic:mail:{mail.0}:owner:senders senders ordered 9f2c… → 1
local rows = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', 1)
if not rows.err and rows[1] then
  local count = math.max(0, rows[1][4] - 1)
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, rows[1][1], 'RETRYCOUNT', count, 'JUSTID')
end
redis.call('DEL', KEYS[2])
return 1
