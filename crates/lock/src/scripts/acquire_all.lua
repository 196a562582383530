-- Ends `acquire.lua`: several locks, one that the caller has already, and one whose holder is yet to learn that it is
-- waited for.
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
    local since
    fence, since = next_fence(KEYS[i + 1], ARGV[3])
    local held = ARGV[6] .. token .. ' ' .. fence .. ' ' .. since .. ' ' .. ARGV[4]
    redis.call('SET', KEYS[i], held, 'PX', ttl)
  end
  reply[#reply + 1] = fence
end
return reply
