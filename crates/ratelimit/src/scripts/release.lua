-- Ends the script that gives a place back and wakes the first waiter.
--
-- KEYS[1]  the leases: see `concurrency.lua`
-- KEYS[2]  the queue in which callers wait for a place
-- ARGV[1]  the lease's id
-- ARGV[2]  the channel of wake-ups
-- Reply    1 when the lease was there, otherwise 0
-- Example  EVALSHA … 2 shop:ratelimit:exports:{alice}:concurrency
--            shop:ratelimit:exports:{alice}:places-queue 9f3a… shop:ratelimit:exports:wake → 1
local was_there = redis.call('ZREM', KEYS[1], ARGV[1])
if was_there == 1 then
  queue_wake(KEYS[2], ARGV[2], '')
end
return was_there
