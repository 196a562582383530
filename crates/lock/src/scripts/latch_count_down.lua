-- Counts a latch down. A token counts once; the latch that is at zero wakes its waiters.
--
-- KEYS[1], KEYS[2]  see `latch_set.lua`
-- ARGV[1]  the token that counts
-- ARGV[2]  by how much
-- ARGV[3]  time to live from now on (ms)
-- ARGV[4]  the channel of wake-ups
-- ARGV[5]  the name of the waiters
-- Reply    what is left; −1 when there is no latch
-- Example  EVALSHA … 2 shop:latch:import:{7} shop:latch:import:{7}:counted 77aa… 1 86400000
--          shop:latch:import:wake 7 → 2
local left = tonumber(redis.call('HGET', KEYS[1], 'n'))
if not left then
  return -1
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if left == 0 then
  return 0
end
if redis.call('SADD', KEYS[2], ARGV[1]) == 1 then
  left = math.max(left - tonumber(ARGV[2]), 0)
  redis.call('HSET', KEYS[1], 'n', left)
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
if left == 0 then
  -- Whatever counts from now on changes nothing.
  redis.call('DEL', KEYS[2])
  wake_up(ARGV[4], ARGV[5])
end
return left
