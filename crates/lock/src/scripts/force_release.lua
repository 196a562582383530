-- Takes a lock away from its holder, if that is still the one with this fence, and wakes what waits for it.
--
-- KEYS[1]  the lock
-- KEYS[2]  its queue (see `wait_queue.lua`)
-- ARGV[1]  the holder's fence
-- ARGV[2]  the channel of wake-ups
-- Reply    1 when it was taken away, otherwise 0
-- Example  EVALSHA … 2 shop:lock:orders:{7} shop:lock:orders:{7}:queue 1764000000000000 shop:lock:orders:wake → 1
local held = redis.call('GET', KEYS[1])
if not held or fence_of(held) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
wake_up(ARGV[2], KEYS[1])
queue_wake(KEYS[2], ARGV[2])
return 1
