-- A member's rank and its score, read at the same moment.
--
-- KEYS[1] the sorted set
-- ARGV[1] 'ZRANK' or 'ZREVRANK'
-- ARGV[2] the member
--
-- Reply: the rank and the score, or nothing.
-- Example: EVALSHA … 1 board ZREVRANK "\"ann\"" → {0, "42"}

local rank = redis.call(ARGV[1], KEYS[1], ARGV[2])
if not rank then
  return false
end
return {rank, redis.call('ZSCORE', KEYS[1], ARGV[2])}
