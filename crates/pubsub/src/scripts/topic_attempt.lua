-- Counts an attempt of an entry of an ordered group. Needs topic_fence.lua before it.
--
-- KEYS[1]  the stream    KEYS[2]  the owner's token
-- ARGV[1]  the group    ARGV[2]  the consumer    ARGV[3]  the entry    ARGV[4]  which attempt comes next
-- ARGV[5]  the caller's token
-- Reply    1, or -1 for a caller that does not own the partition
-- Example  EVALSHA … 2 ns:topic:mail:{mail.0} ns:topic:mail:{mail.0}:owner:senders senders ordered 1764428400000-0 2 9f2c… → 1
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'RETRYCOUNT', ARGV[4], 'JUSTID')
return 1
