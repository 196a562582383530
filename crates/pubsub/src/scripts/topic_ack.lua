-- Acknowledges an entry.
--
-- Needs topic_entry.lua and topic_finish.lua before it.
--
-- KEYS[1]  the stream    KEYS[2]  the deduplication record of its id
-- ARGV[1]  the group    ARGV[2]  the entry    ARGV[3]  its field `d`    ARGV[4]  retention: `queue` or `log`
-- Reply    1 when it was pending, otherwise 0
-- Example  EVALSHA … 2 ns:topic:mail:{mail.0} ns:topic:mail:{mail.0}:id:order-7 senders 1764428400000-0 0 queue → 1
return finish(KEYS[1], ARGV[1], ARGV[2], KEYS[2], ARGV[3], ARGV[4])
