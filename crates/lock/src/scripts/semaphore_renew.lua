-- Renews the lease of a grant. A lease that has run out stays so.
--
-- KEYS[1], KEYS[2]  see `semaphore.lua`
-- ARGV[1]  the token of the grant
-- ARGV[2]  the lease (µs)
-- Reply    1 renewed, 0 it has run out or was given back
-- Example  EVALSHA … 2 shop:semaphore:exports:{eu} …:{eu}:grants 9f3a… 30000000 → 1
local ends = tonumber(redis.call('ZSCORE', leases, ARGV[1]))
if not ends or ends <= now or redis.call('HEXISTS', grants, ARGV[1]) == 0 then
  return 0
end
-- First what needs no memory: after it Redis lets the script go on though there is none.
live_until_the_last_lease()
redis.call('ZADD', leases, now + tonumber(ARGV[2]), ARGV[1])
live_until_the_last_lease()
return 1
