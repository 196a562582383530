-- Gives back whatever a caller has of a read/write lock: the lock, and the place of a writer that waits. Wakes
-- the writers that wait, or else the readers.
--
-- KEYS     see `rw.lua`
-- ARGV[1]  the caller's token
-- ARGV[2]  the same as a reader: token, process, host and label
-- ARGV[3]  the channel of wake-ups
-- Reply    1 when it held the lock, otherwise 0
-- Example  EVALSHA … 3 shop:rwlock:docs:{7} …:readers …:writers 9f3a… "9f3a… 71 web-3 -" shop:rwlock:docs:wake → 1
rw_counts()
local was_writer = flag_of(redis.call('GET', KEYS[1]), ARGV[1])
if was_writer then
  redis.call('DEL', KEYS[1])
end
local was_reader = redis.call('ZREM', KEYS[2], ARGV[2]) == 1
local has_waited = redis.call('ZREM', KEYS[3], ARGV[1]) == 1
if redis.call('EXISTS', KEYS[1]) == 0 then
  local readers, waiting = rw_counts()
  if waiting > 0 then
    if readers == 0 then
      wake_up(ARGV[3], KEYS[3])
    end
  elseif was_writer or has_waited then
    wake_up(ARGV[3], KEYS[1])
  end
end
return (was_writer or was_reader) and 1 or 0
