-- Keeps the result of an execution, for a runner whose lease still stands. Repeated it keeps it once.
--
-- KEYS[1]  see `idempotent_begin.lua`
-- ARGV[1]  token
-- ARGV[2]  for how long it is kept (ms)
-- ARGV[3]  the result; none when it is not kept, and only known that the execution has ended
-- Reply    1 kept, 0 the runner has lost its lease: nothing was changed
-- Example  EVALSHA … 1 shop:idempotent:payments:{7:alice:k-1} 9f3a… 86400000 "paid" → 1
local owner, ends, result, is_not_kept = unpack(redis.call('HMGET', KEYS[1], 'o', 'l', 'v', 'x'))
if owner ~= ARGV[1] then
  return 0
elseif result or is_not_kept then
  return 1
elseif tonumber(ends) <= now then
  return 0
end
-- The first needs no memory: after it Redis lets the script go on though there is none. What was begun is
-- kept; nothing new is begun meanwhile.
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if ARGV[3] then
  redis.call('HSET', KEYS[1], 'v', ARGV[3])
else
  redis.call('HSET', KEYS[1], 'x', 1)
end
return 1
