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
-- Reply    {1, fence}; or {0, 1, PTTL of the lock (-2 when it is free), what stands at its key or nothing}
-- Example  EVALSHA … 4 shop:lock:orders:{7} …:fence …:queue …:heartbeats 9f3a… 10000 86400000 "71 web-3 -" 1
--          shop:lock:orders:wake 3000000 → {1, "1764000000000000"}
local token, ttl = ARGV[1], ARGV[2]
local held = redis.call('GET', KEYS[1])
if flag_of(held, token) then
  queue_leave(KEYS[3], KEYS[4], token)
  redis.call('PEXPIRE', KEYS[1], ttl)
  return { 1, (fence_of(held)) }
end
local before = queue_look(KEYS[3], KEYS[4], ARGV[6], token, tonumber(ARGV[7]))
if not held and before == 0 then
  queue_leave(KEYS[3], KEYS[4], token)
  local flag = redis.call('EXISTS', KEYS[3]) == 1 and 'w' or 'h'
  local fence = next_fence(KEYS[2], ARGV[3])
  held = flag .. token .. ' ' .. fence .. ' ' .. string.format('%.0f', now) .. ' ' .. ARGV[4]
  redis.call('SET', KEYS[1], held, 'PX', ttl)
  return { 1, fence }
end
if ARGV[5] == '1' then
  queue_join(KEYS[3], KEYS[4], token, tonumber(ARGV[7]))
  if held and is_unwaited(held) then
    redis.call('SETRANGE', KEYS[1], 0, 'w')
  end
else
  queue_leave(KEYS[3], KEYS[4], token)
  -- The caller was the one to be served next, and will not wait.
  if not held then
    queue_wake(KEYS[3], ARGV[6], token)
  end
end
return { 0, 1, redis.call('PTTL', KEYS[1]), held }
