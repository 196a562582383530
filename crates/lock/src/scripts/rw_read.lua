-- Takes a read/write lock for reading: when no writer has it or waits for it.
--
-- KEYS     see `rw.lua`
-- ARGV[1]  the reader: its token, process, host and label
-- ARGV[2]  for how long its lease runs (ms)
-- Reply    {1}; or {0, for how long it is taken (ms), the writer that holds it or nothing}
-- Example  EVALSHA … 3 shop:rwlock:docs:{7} …:readers …:writers "9f3a… 71 web-3 -" 10000 → {1}
local _, waiting = rw_counts()
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  rw_add(KEYS[2], ARGV[1], ARGV[2])
  return { 1 }
end
local held = redis.call('GET', KEYS[1])
if held then
  return { 0, redis.call('PTTL', KEYS[1]), held }
end
if waiting > 0 then
  -- Nothing says when: the reader is woken, and looks for dead writers besides.
  return { 0, 1000, false }
end
rw_add(KEYS[2], ARGV[1], ARGV[2])
return { 1 }
