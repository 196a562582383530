-- Takes one lock or several, all of them or none.
--
-- KEYS     for each lock: the lock, the record of its last fence
-- ARGV[1]  the owner's token
-- ARGV[2]  for how long the locks run (ms)
-- ARGV[3]  for how long fences are remembered (ms)
-- ARGV[4]  process, host and label of the owner
-- ARGV[5]  1 when the caller waits for a lock that is taken, otherwise 0
-- ARGV[6]  the flag of a lock that is taken now: h, or w when others may wait for it
-- Reply    {1, fence, …} in the order of the locks; or {0, which lock is taken (from 1), its PTTL, what
--          stands at its key}. The owner of the token gets locks that it has already, for the whole time.
-- Example  EVALSHA … 2 shop:lock:orders:{7} shop:lock:orders:{7}:fence 9f3a… 10000 86400000 "71 web-3 -" 0 h
--          → {1, "1764000000000000"}
local token, ttl = ARGV[1], ARGV[2]
local own = {}
for i = 1, #KEYS, 2 do
  local held = redis.call('GET', KEYS[i])
  if held then
    if not flag_of(held, token) then
      if ARGV[5] == '1' and is_unwaited(held) then
        redis.call('SETRANGE', KEYS[i], 0, 'w')
      end
      return { 0, (i + 1) / 2, redis.call('PTTL', KEYS[i]), held }
    end
    own[i] = held
  end
end
local reply = { 1 }
for i = 1, #KEYS, 2 do
  local fence
  if own[i] then
    fence = fence_of(own[i])
    redis.call('PEXPIRE', KEYS[i], ttl)
  else
    fence = next_fence(KEYS[i + 1], ARGV[3])
    local held = ARGV[6] .. token .. ' ' .. fence .. ' ' .. string.format('%.0f', now) .. ' ' .. ARGV[4]
    redis.call('SET', KEYS[i], held, 'PX', ttl)
  end
  reply[#reply + 1] = fence
end
return reply
