-- Sets a field of a hash together with the field's own time to live (Redis 7.4, Valkey 9.0).
--
-- KEYS[1] the hash
-- ARGV[1] the field
-- ARGV[2] its value
-- ARGV[3] the field's time to live in milliseconds
-- ARGV[4] the key's time to live in milliseconds, or ''
-- ARGV[5] 'create': only if the key has no time to live yet; 'write': anew
--
-- Reply: 1 when the field is new, 0 when it was there.
-- Example: EVALSHA … 1 codes "user:7" "\"4711\"" 300000 '' '' → 1

-- Asked for its error only: a server that does not know it must not have written.
redis.call('HPTTL', KEYS[1], 'FIELDS', 1, ARGV[1])
local added = redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HPEXPIRE', KEYS[1], ARGV[3], 'FIELDS', 1, ARGV[1])
if ARGV[5] == 'create' then
  redis.call('PEXPIRE', KEYS[1], ARGV[4], 'NX')
elseif ARGV[5] == 'write' then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return added
