-- Takes a partition, or prolongs its lease.
--
-- KEYS[1]  the owner's token (string)
-- ARGV[1]  the caller's token    ARGV[2]  the lease (ms)    ARGV[3]  1 to take it when nobody has it
-- Reply    1 when the caller owns it, otherwise 0
-- Example  EVALSHA … 1 ns:topic:mail:{mail.0}:owner:senders 9f2c… 30000 1 → 1
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] then
  -- It needs no memory: a server that is full does not cost the owner its partition.
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
elseif not owner and ARGV[3] == '1' then
  -- This changes nothing, and needs no memory: after it a server that is full lets the script go on. Else nobody could take a
  -- partition, and drain it.
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
return 0
