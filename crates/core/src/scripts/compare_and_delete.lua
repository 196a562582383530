-- Deletes a key, if what is stored is, byte for byte, what is expected.
--
-- KEYS[1]  the key, of a string or of nothing
-- ARGV[1]  the bytes that are expected
--
-- Reply: 1 when deleted, 0 when something else is stored, or nothing.
-- Example: EVALSHA <sha> 1 shop:{7} "\"old\""  ->  1

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('UNLINK', KEYS[1])
