-- Cancels a message that waits for its time: it is moved into the stream, or cancelled, and never both.
--
-- Needs topic_entry.lua before it.
--
-- KEYS[1]  the messages that wait for their time    KEYS[2]  their bodies    KEYS[3]  the deduplication record of the id
-- KEYS[4]  that this call has cancelled it (string)
-- ARGV[1]  the message's id    ARGV[2]  for how long KEYS[4] lasts (ms): longer than the call is repeated
-- Reply    1 when this call, or an earlier attempt of it, cancelled the message, otherwise 0
-- Example  EVALSHA … 4 ns:topic:mail:{mail.0}:delayed ns:topic:mail:{mail.0}:bodies ns:topic:mail:{mail.0}:id:order-7
--            ns:topic:mail:{mail.0}:cancelled:9f2c… order-7 300000 → 1
local delayed, bodies, record, id = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
if redis.call('EXISTS', KEYS[4]) == 1 then
  return 1
end
-- The first command that writes needs no memory: after it a server that is full lets the script go on.
if redis.call('ZREM', delayed, id) == 0 then
  return 0
end
local body = redis.call('HGET', bodies, id)
redis.call('HDEL', bodies, id)
redis.call('SET', KEYS[4], '1', 'PX', ARGV[2])
if body then
  -- The record of a message that waits does not know an entry. It may be that of an earlier message with the same id, or
  -- something else of another program.
  local _, _, _, recorded = unpack_body(body)
  local known = redis.pcall('HMGET', record, 'e', 'd')
  if not known.err and known[1] == '' and known[2] == recorded then
    redis.call('DEL', record)
  end
end
return 1
