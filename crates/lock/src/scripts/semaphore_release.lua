-- Gives permits back: all of a grant but so many. Repeated it gives nothing back a second time.
--
-- KEYS[1], KEYS[2]  see `semaphore.lua`
-- KEYS[3]  the queue
-- ARGV[1]  the token of the grant
-- ARGV[2]  how many permits it keeps; 0 ends it
-- ARGV[3]  the channel of wake-ups
-- Reply    how many permits were given back
-- Example  EVALSHA … 3 shop:semaphore:exports:{eu} …:{eu}:grants …:{eu}:queue 9f3a… 0
--          shop:semaphore:exports:wake → 2
prune()
local held = tonumber(redis.call('HGET', grants, ARGV[1]) or 0)
local kept = math.min(held, tonumber(ARGV[2]))
if kept < held then
  -- It needs no memory: after it Redis lets the script go on though there is none.
  live_until_the_last_lease()
  set_permits(ARGV[1], kept)
end
live_until_the_last_lease()
queue_wake(KEYS[3], ARGV[3], '')
return held - kept
