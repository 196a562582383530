-- Lets locks run on, if all of them still belong to the owner.
--
-- KEYS     the locks
-- ARGV[1]  the owner's token
-- ARGV[2]  for how long from now on (ms)
-- ARGV[3]  GT when they may be set to run longer than that already, otherwise nothing
-- Reply    1, or 0 when one of them is not the owner's any more; then none runs on
-- Example  EVALSHA … 1 shop:lock:orders:{7} 9f3a… 10000 "" → 1
for i = 1, #KEYS do
  if not flag_of(redis.call('GET', KEYS[i]), ARGV[1]) then
    return 0
  end
end
for i = 1, #KEYS do
  if ARGV[3] == 'GT' then
    redis.call('PEXPIRE', KEYS[i], ARGV[2], 'GT')
  else
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
  end
end
return 1
