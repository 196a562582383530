-- Sets a latch's count, unless it is set already. Repeated with the same token it says the same.
--
-- KEYS[1]  hash: `n` what is left to be counted, `s` the token that set it
-- KEYS[2]  set: the tokens that have counted
-- ARGV[1]  a token
-- ARGV[2]  the count
-- ARGV[3]  time to live (ms)
-- Reply    1 set, 0 it is set already
-- Example  EVALSHA … 2 shop:latch:import:{7} shop:latch:import:{7}:counted 9f3a… 3 86400000 → 1
local by = redis.call('HGET', KEYS[1], 's')
if by then
  return by == ARGV[1] and 1 or 0
end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'n', ARGV[2], 's', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
