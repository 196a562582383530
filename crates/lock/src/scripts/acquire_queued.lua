-- Ends `acquire_fair.lua`: the lock is taken, or has waiters.
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
  local fence, since = next_fence(KEYS[2], ARGV[3])
  held = flag .. token .. ' ' .. fence .. ' ' .. since .. ' ' .. ARGV[4]
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
