-- Lets a reader's lease run on, if it is not over.
--
-- KEYS     see `rw.lua`
-- ARGV[1]  the reader
-- ARGV[2]  for how long from now on (ms)
-- Reply    1, or 0 when it is over
-- Example  EVALSHA … 3 shop:rwlock:docs:{7} …:readers …:writers "9f3a… 71 web-3 -" 10000 → 1
-- Its writes need no memory: after them Redis lets the script go on though there is none.
rw_counts()
local ends = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not ends or tonumber(ends) <= now then
  return 0
end
rw_add(KEYS[2], ARGV[1], ARGV[2])
return 1
