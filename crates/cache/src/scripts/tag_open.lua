-- The generation of a tag, made when there is none, and kept for as long as entries may have it.
--
-- KEYS  1 tag
-- ARGV  1 a random number, should the tag be new   2 ttl in milliseconds
-- Reply the generation
--
-- Example: EVALSHA … 1 cache-tag:p:{shoes} 9f3c 120000  →  "9f3c"
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX')
-- Half of it is longer than any entry lives. A key that every load touched would be told to every
-- level that tracks it.
if redis.call('PTTL', KEYS[1]) < ARGV[2] / 2 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('GET', KEYS[1])
