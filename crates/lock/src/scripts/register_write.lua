-- Writes a value under a fence, or deletes it, unless a newer fence has written or was announced.
--
-- KEYS[1]  the register: f the newest fence, v the value
-- ARGV[1]  the writer's fence, in decimal
-- ARGV[2]  `write`, `announce` (the fence alone), or `delete` (the value; the fence stays for a time)
-- ARGV[3]  the value to write, or for how long a deleted value's fence stays (ms)
-- Reply    nothing when it was done, or the newer fence
-- Example  EVALSHA … 1 shop:fenced:stock:{7} 1764000000000001 write {"left":3} → nil
local fence = ARGV[1]
local newest = redis.call('HGET', KEYS[1], 'f')
-- Numbers of Lua are exact to 53 bits only; decimals of the same length compare as texts.
if newest and (#newest > #fence or (#newest == #fence and newest > fence)) then
  return newest
end
if ARGV[2] == 'delete' then
  -- The first needs no memory: after it Redis lets the script go on though there is none.
  redis.call('HDEL', KEYS[1], 'v')
  redis.call('HSET', KEYS[1], 'f', fence)
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return false
end
if ARGV[2] == 'write' then
  redis.call('HSET', KEYS[1], 'f', fence, 'v', ARGV[3])
else
  redis.call('HSET', KEYS[1], 'f', fence)
end
-- It may have been deleted before.
redis.call('PERSIST', KEYS[1])
return false
