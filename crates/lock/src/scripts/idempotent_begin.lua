-- Begins an execution, or says what became of the one before. Repeated with the same token it begins
-- once.
--
-- KEYS[1]  hash: `f` the fingerprint, `o` the token of the runner, `l` µs until which it runs;
--          when it has ended `v` the result, or `x` that the result is not kept
-- ARGV[1]  token
-- ARGV[2]  fingerprint
-- ARGV[3]  lease (µs)
-- Reply    {1}: begun; {2}: another runs; {3}: of another fingerprint; {4, result}; {5}: it has ended, and
--          its result is not kept
-- Example  EVALSHA … 1 shop:idempotent:payments:{7:alice:k-1} 9f3a… 5e88… 30000000 → {1}
local record = redis.call('HMGET', KEYS[1], 'f', 'o', 'l', 'v', 'x')
local fingerprint, owner, ends, result, is_not_kept = unpack(record)
if owner and fingerprint ~= ARGV[2] then
  return { 3 }
elseif result then
  return { 4, result }
elseif is_not_kept then
  return { 5 }
elseif owner and owner ~= ARGV[1] and tonumber(ends) > now then
  return { 2 }
end
-- What stands there has no other fields. The first write needs memory: without it nothing is begun.
redis.call('HSET', KEYS[1], 'f', ARGV[2], 'o', ARGV[1], 'l', string.format('%.0f', now + ARGV[3]))
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[3] / 1000))
return { 1 }
