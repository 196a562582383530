-- Sets, creates or deletes a field of a hash, if it is still what the caller has seen.
--
-- KEYS[1] the hash
-- ARGV[1] the field
-- ARGV[2] '1' when the field is expected to be there, with the value of ARGV[3]; '0' when it is not
-- ARGV[3] the expected value
-- ARGV[4] '1' to set the field to ARGV[5]; '0' to delete it
-- ARGV[5] the new value
-- ARGV[6] the key's time to live in milliseconds, or ''
-- ARGV[7] 'create': only if the key has no time to live yet; 'write': anew
--
-- Reply: 1 when done, 0 when the field was something else.
-- Example: EVALSHA … 1 stock "teapot" 1 "3" 1 "2" '' '' → 1

local current = redis.call('HGET', KEYS[1], ARGV[1])
local expected = ARGV[2] == '1' and ARGV[3]
if current ~= expected then
  return 0
end
if ARGV[4] ~= '1' then
  redis.call('HDEL', KEYS[1], ARGV[1])
  return 1
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
if ARGV[7] == 'create' then
  redis.call('PEXPIRE', KEYS[1], ARGV[6], 'NX')
elseif ARGV[7] == 'write' then
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
end
return 1
