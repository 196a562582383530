-- Deletes a group, and what it has beside the stream.
--
-- KEYS[1]  the stream    KEYS[2]  the topic's state    KEYS[3]  the group's retries    KEYS[4]  its dead letters
-- KEYS[5]  the owner's token
-- ARGV[1]  the group
-- Reply    1 when there was such a group, otherwise 0
-- Example  EVALSHA … 5 ns:topic:mail:{mail.0} … senders → 1
local destroyed = redis.pcall('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], 'mode:' .. ARGV[1], 'made:' .. ARGV[1], 'paused:' .. ARGV[1], 'taken:' .. ARGV[1])
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
-- Without a stream there is no group.
return type(destroyed) == 'number' and destroyed or 0
