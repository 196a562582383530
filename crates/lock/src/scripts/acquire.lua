-- Takes one lock or several, all of them or none.
--
-- KEYS     for each lock: the lock, the record of its last fence
-- ARGV[1]  the owner's token
-- ARGV[2]  for how long the locks run (ms)
-- ARGV[3]  for how long fences are remembered (ms)
-- ARGV[4]  process, host and label of the owner
-- ARGV[5]  1 when the caller waits for a lock that is taken, otherwise 0
-- ARGV[6]  the flag of a lock that is taken now: h, or w when others may wait for it
-- Reply    the fence of one lock that was free; {1, fence, …} in the order of the locks; or {0, which lock is taken
--          (from 1), its PTTL, what stands at its key}. The owner of the token gets locks that it has already, for the whole time.
-- Example  EVALSHA … 2 shop:lock:orders:{7} shop:lock:orders:{7}:fence 9f3a… 10000 86400000 "71 web-3 -" 0 h
--          → "1764000000000000"
local token, ttl = ARGV[1], ARGV[2]
if #KEYS == 2 then
  -- One lock, which is free or another's: the common way, before the functions of the other parts are made.
  local held = redis.call('GET', KEYS[1])
  if not held then
    local fence, since = next_fence(KEYS[2], ARGV[3])
    redis.call('SET', KEYS[1], ARGV[6] .. token .. ' ' .. fence .. ' ' .. since .. ' ' .. ARGV[4], 'PX', ttl)
    return fence
  elseif string.sub(held, 2, 33) ~= token and (ARGV[5] ~= '1' or string.byte(held) == 119) then
    -- A caller that waits is known to the holder already: the flag is w.
    return { 0, 1, redis.call('PTTL', KEYS[1]), held }
  end
end
