-- Takes a lock if it is free and nobody stands before the caller, who joins the queue otherwise.
--
-- KEYS[1]  the lock
-- KEYS[2]  the record of its last fence
-- KEYS[3]  the queue (see `wait_queue.lua`)
-- KEYS[4]  its heartbeats
-- ARGV[1]  the owner's token, which is also its name in the queue
-- ARGV[2]  for how long the lock runs (ms)
-- ARGV[3]  for how long the fence is remembered (ms)
-- ARGV[4]  process, host and label of the owner
-- ARGV[5]  1 when the caller waits, otherwise 0
-- ARGV[6]  the channel of wake-ups
-- ARGV[7]  for how long a visit is a sign of life (µs)
-- Reply    the fence of a lock that was free and that nobody waited for; {1, fence}; or {0, 1, PTTL of the lock (-2
--          when it is free), what stands at its key or nothing}
-- Example  EVALSHA … 4 shop:lock:orders:{7} …:fence …:queue …:heartbeats 9f3a… 10000 86400000 "71 web-3 -" 1
--          shop:lock:orders:wake 3000000 → "1764000000000000"
local token, ttl = ARGV[1], ARGV[2]
if redis.call('EXISTS', KEYS[1], KEYS[3], KEYS[4]) == 0 then
  -- The lock is free and nobody waits: the common way, before the functions of the other parts are made.
  local fence, since = next_fence(KEYS[2], ARGV[3])
  redis.call('SET', KEYS[1], 'h' .. token .. ' ' .. fence .. ' ' .. since .. ' ' .. ARGV[4], 'PX', ttl)
  return fence
end
