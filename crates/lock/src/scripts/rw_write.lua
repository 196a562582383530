-- Takes a read/write lock for writing: when nobody has it. While the writer waits no reader is let in.
--
-- KEYS     1 to 3: see `rw.lua`; 4: the record of the last fence
-- ARGV[1]  the writer's token
-- ARGV[2]  for how long the lock runs (ms)
-- ARGV[3]  for how long the fence is remembered (ms)
-- ARGV[4]  process, host and label
-- ARGV[5]  for how long this visit is a sign of life of a writer that waits (ms), 0 when it does not wait
-- Reply    {1, fence}; or {0, for how long it is taken (ms), the writer that holds it or nothing}
-- Example  EVALSHA … 4 shop:rwlock:docs:{7} …:readers …:writers …:fence 9f3a… 10000 86400000 "71 web-3 -" 0
--          → {1, "1764000000000000"}
local token = ARGV[1]
local readers = rw_counts()
local held = redis.call('GET', KEYS[1])
if flag_of(held, token) then
  redis.call('ZREM', KEYS[3], token)
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return { 1, (fence_of(held)) }
end
if not held and readers == 0 then
  redis.call('ZREM', KEYS[3], token)
  local fence, since = next_fence(KEYS[4], ARGV[3])
  held = 'h' .. token .. ' ' .. fence .. ' ' .. since .. ' ' .. ARGV[4]
  redis.call('SET', KEYS[1], held, 'PX', ARGV[2])
  return { 1, fence }
end
if ARGV[5] ~= '0' then
  rw_add(KEYS[3], token, ARGV[5])
end
if held then
  return { 0, redis.call('PTTL', KEYS[1]), held }
end
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
return { 0, math.ceil((last[2] - now) / 1000), false }
