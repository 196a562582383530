-- How a semaphore stands.
--
-- KEYS[1], KEYS[2]  see `semaphore.lua`
-- KEYS[3]  string: how many permits there are, if that was changed
-- KEYS[4]  heartbeats of the waiters
-- ARGV[1]  how many permits there are, unless that was changed
-- Reply    {permits, of these taken, grants, waiters}
-- Example  EVALSHA … 4 shop:semaphore:exports:{eu} …:{eu}:grants …:{eu}:permits …:{eu}:heartbeats
--          10 → {10, 2, 1, 0}
prune()
local waiters = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], string.format('(%.0f', now), '+inf')) do
  -- With a `-` before it for one that gave up.
  if string.byte(id) ~= 45 then
    waiters = waiters + 1
  end
end
return {
  tonumber(redis.call('GET', KEYS[3]) or ARGV[1]),
  permits_taken(),
  redis.call('ZCARD', leases),
  waiters,
}
