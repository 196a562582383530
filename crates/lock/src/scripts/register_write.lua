-- Writes a value under a fence, unless a newer fence has written or was announced.
--
-- KEYS[1]  the register: f the newest fence, v the value
-- ARGV[1]  the writer's fence, in decimal
-- ARGV[2]  1 when there is a value to write, 0 to announce the fence alone
-- ARGV[3]  the value
-- Reply    nothing when it was written, or the newer fence
-- Example  EVALSHA … 1 shop:fenced:stock:{7} 1764000000000001 1 {"left":3} → nil
local fence = ARGV[1]
local newest = redis.call('HGET', KEYS[1], 'f')
-- Numbers of Lua are exact to 53 bits only; decimals of the same length compare as texts.
if newest and (#newest > #fence or (#newest == #fence and newest > fence)) then
  return newest
end
if ARGV[2] == '1' then
  redis.call('HSET', KEYS[1], 'f', fence, 'v', ARGV[3])
else
  redis.call('HSET', KEYS[1], 'f', fence)
end
return false
