-- Ends the script by which a waiter gives its place up.
--
-- KEYS[1]  the queue (see `wait_queue.lua`)
-- KEYS[2]  its heartbeats
-- ARGV[1]  the waiter's id
-- ARGV[2]  the channel of wake-ups
-- ARGV[3]  µs for which a visit of the waiter that arrives late gets nothing
-- Reply    1 when it had a place, otherwise 0
-- Example  EVALSHA … 2 shop:lock:orders:{7}:queue shop:lock:orders:{7}:heartbeats 9f3a… shop:lock:orders:wake 3000000 → 1
local place = redis.call('ZRANK', KEYS[1], ARGV[1])
queue_leave(KEYS[1], KEYS[2], ARGV[1])
queue_close(KEYS[2], ARGV[1], tonumber(ARGV[3]))
if place == 0 then
  queue_wake(KEYS[1], ARGV[2], ARGV[1])
end
return place and 1 or 0
