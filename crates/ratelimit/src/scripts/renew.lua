-- Ends the script that renews leases.
--
-- KEYS[1]  the leases: see `concurrency.lua`
-- ARGV[1]  lease (µs)
-- ARGV[2…] ids
-- Reply    for each id 1 when it was renewed, 0 when it had run out or was released
-- Example  EVALSHA … 1 shop:ratelimit:exports:{alice}:concurrency 30000000 9f3a → {1}
local key, ends, kept = KEYS[1], now + tonumber(ARGV[1]), {}
for n = 2, #ARGV do
  local score = tonumber(redis.call('ZSCORE', key, ARGV[n]))
  if score and score > now then
    redis.call('ZADD', key, ends, ARGV[n])
    kept[n - 1] = 1
  else
    kept[n - 1] = 0
  end
end
keep_concurrency(key)
return kept
