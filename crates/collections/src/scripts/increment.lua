-- Adds to an integer, which is a string or a field of a hash, and gives its key a time to live in the
-- same step. The sum is read back as text: Lua's numbers are exact to 2^53 only.
--
-- KEYS[1] the key
-- ARGV[1] what to add
-- ARGV[2] the key's time to live in milliseconds
-- ARGV[3] 'create': only if the key has no time to live yet; 'write': anew
-- ARGV[4] the field, for a hash
--
-- Reply: the sum, as text.
-- Example: EVALSHA … 1 visits 1 86400000 create → "1"

local sum
if ARGV[4] then
  redis.call('HINCRBY', KEYS[1], ARGV[4], ARGV[1])
  sum = redis.call('HGET', KEYS[1], ARGV[4])
else
  redis.call('INCRBY', KEYS[1], ARGV[1])
  sum = redis.call('GET', KEYS[1])
end
if ARGV[3] == 'create' then
  redis.call('PEXPIRE', KEYS[1], ARGV[2], 'NX')
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return sum
