-- Makes a reader of the writer that holds a read/write lock, without letting another writer in between, and wakes
-- the readers.
--
-- KEYS     see `rw.lua`
-- ARGV[1]  the writer's token
-- ARGV[2]  the same as a reader: token, process, host and label
-- ARGV[3]  for how long its lease runs (ms)
-- ARGV[4]  the channel of wake-ups
-- Reply    1, or 0 when it does not hold the lock any more
-- Example  EVALSHA … 3 shop:rwlock:docs:{7} …:readers …:writers 9f3a… "9f3a… 71 web-3 -" 10000 shop:rwlock:docs:wake → 1
rw_counts()
if flag_of(redis.call('GET', KEYS[1]), ARGV[1]) then
  redis.call('DEL', KEYS[1])
elseif not redis.call('ZSCORE', KEYS[2], ARGV[2]) then
  return 0
end
rw_add(KEYS[2], ARGV[2], ARGV[3])
wake_up(ARGV[4], KEYS[1])
return 1
