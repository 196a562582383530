-- Removes a consumer that has no entries: with entries, XGROUP DELCONSUMER would drop them.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group    ARGV[2]  the consumer
-- Reply    1 when it is gone, otherwise 0
-- Example  EVALSHA … 1 ns:topic:mail:{mail.0} senders 0198… → 1
local rows = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if rows.err then
  return 1
end
if #rows > 0 then
  return 0
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
