-- Takes a read/write lock away from the writer with this fence, or from all readers that have it, and wakes what waits.
--
-- KEYS     see `rw.lua`
-- ARGV[1]  the writer's fence, '' for the readers
-- ARGV[2]  the channel of wake-ups
-- Reply    from how many it was taken away
-- Example  EVALSHA … 3 shop:rwlock:docs:{7} …:readers …:writers 1764000000000000 shop:rwlock:docs:wake → 1
local readers, waiting = rw_counts()
local held = redis.call('GET', KEYS[1])
local taken = 0
if ARGV[1] == '' then
  taken = readers
  redis.call('DEL', KEYS[2])
elseif held and fence_of(held) == ARGV[1] then
  taken = 1
  redis.call('DEL', KEYS[1])
  held = false
end
if taken > 0 and not held then
  wake_up(ARGV[2], waiting > 0 and KEYS[3] or KEYS[1])
end
return taken
