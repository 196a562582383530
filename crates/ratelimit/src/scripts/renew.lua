-- Ends the script that renews a lease.
--
-- KEYS[1]  the leases: see `concurrency.lua`
-- ARGV[1]  the lease's id
-- ARGV[2]  for how long it is to run from now on (µs)
-- Reply    1 when it was renewed, 0 when it had run out or was released
-- Example  EVALSHA … 1 shop:ratelimit:exports:{alice}:concurrency 9f3a 30000000 → 1
local ends = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]))
if not ends or ends <= now then
  return 0
end
-- Out of memory, the server refuses a script whose first write may grow; what is held stays held.
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000) + 1)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
keep_concurrency(KEYS[1])
return 1
