-- Looks at a read/write lock.
--
-- KEYS     see `rw.lua`
-- Reply    {PTTL of the writer's lock, the writer that holds it or nothing, readers, writers that wait}
-- Example  EVALSHA … 3 shop:rwlock:docs:{7} …:readers …:writers → {-2, nil, 3, 1}
local live = '(' .. string.format('%.0f', now)
return {
  redis.call('PTTL', KEYS[1]),
  redis.call('GET', KEYS[1]),
  redis.call('ZCOUNT', KEYS[2], live, '+inf'),
  redis.call('ZCOUNT', KEYS[3], live, '+inf'),
}
