-- Renews the lease of a runner.
--
-- KEYS[1]  see `idempotent_begin.lua`
-- ARGV[1]  token
-- ARGV[2]  lease (µs)
-- Reply    1 renewed, 0 it has run out, or the execution has ended
-- Example  EVALSHA … 1 shop:idempotent:payments:{7:alice:k-1} 9f3a… 30000000 → 1
local owner, ends, result, is_not_kept = unpack(redis.call('HMGET', KEYS[1], 'o', 'l', 'v', 'x'))
if owner ~= ARGV[1] or result or is_not_kept or tonumber(ends) <= now then
  return 0
end
-- The first needs no memory: after it Redis lets the script go on though there is none.
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000))
redis.call('HSET', KEYS[1], 'l', string.format('%.0f', now + ARGV[2]))
return 1
