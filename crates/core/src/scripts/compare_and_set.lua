-- Writes a value, if what is stored is, byte for byte, what is expected.
--
-- KEYS[1]  the key, of a string or of nothing
-- ARGV[1]  the bytes that are expected
-- ARGV[2]  the bytes to write
-- ARGV[3]  when the key expires: KEEPTTL (as before), NONE (never), PX or PXAT
-- ARGV[4]  the milliseconds of PX or PXAT, else empty
--
-- Reply: 1 when written, 0 when something else is stored, or nothing.
-- Example: EVALSHA <sha> 1 shop:{7} "\"old\"" "\"new\"" PX 60000  ->  1

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[3] == 'KEEPTTL' then
  redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
elseif ARGV[3] == 'NONE' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], ARGV[3], ARGV[4])
end
return 1
