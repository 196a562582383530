-- Releases a lock on one server.
--
-- KEYS[1]  string: the holder's token
-- ARGV[1]  token
-- ARGV[2]  the channel of wake-ups; empty to wake nobody, for a lock that was never held by a majority
-- ARGV[3]  the name of the waiters
-- Reply    1 released, 0 the token does not hold the lock
-- Example  EVALSHA … 1 shop:redlock:jobs:{7} 9f3a… shop:redlock:jobs:wake 7 → 1
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '' then
  wake_up(ARGV[2], ARGV[3])
end
return 1
