-- Changes how many permits there are, until it is changed again. Grants stay as they are.
--
-- KEYS[1]  string: how many permits there are
-- KEYS[2]  the queue
-- ARGV[1]  how many; empty for the number that each process was built with
-- ARGV[2]  the channel of wake-ups
-- Reply    1
-- Example  EVALSHA … 2 shop:semaphore:exports:{eu}:permits …:{eu}:queue 20
--          shop:semaphore:exports:wake → 1
if ARGV[1] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1])
end
queue_wake(KEYS[2], ARGV[2], '')
return 1
