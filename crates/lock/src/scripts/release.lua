-- Gives locks back, those that still belong to the owner, and wakes what waits for them.
--
-- KEYS     for each lock: the lock, its queue (see `wait_queue.lua`)
-- ARGV[1]  the owner's token
-- ARGV[2]  the channel of wake-ups
-- ARGV[3]  for how long after it was taken a lock stays taken (µs), though it is given back: it rests
-- Reply    how many were the owner's
-- Example  EVALSHA … 2 shop:lock:orders:{7} shop:lock:orders:{7}:queue 9f3a… shop:lock:orders:wake 0 → 1
local held = #KEYS == 2 and ARGV[3] == '0' and redis.call('GET', KEYS[1])
-- The flag is h, and the owner's token follows.
if held and string.byte(held) == 104 and string.find(held, ARGV[1], 2, true) == 2 then
  -- One lock, which nobody waits for: the common way, before the functions of the other parts are made.
  return redis.call('DEL', KEYS[1])
end
