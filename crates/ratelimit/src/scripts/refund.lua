-- Ends the script that gives back what a call took: once, however often it is asked.
--
-- KEYS[1]  the limit's key
-- KEYS[2]  its refunds: sorted set of receipt ids by the time when they can be forgotten (µs)
-- KEYS[3]  the queue in which callers wait for units
-- ARGV[1]  the receipt's id
-- ARGV[2]  for how long a receipt can be worth anything (µs). A mark that is a later time holds for
--          longer: the call may have counted in a longer window of another quota
-- ARGV[3…] mark, part and given of the receipt
-- ARGV[6…] seven fields of the limit: see `several.lua`
-- ARGV[13] the channel of wake-ups
-- Reply    the units given back; 0 when it was done before, or nothing is left of them
-- Example  EVALSHA … 3 r:api:{a}:fixed r:api:{a}:refunds r:api:{a}:queue 9f3a 60000000 1795504826286845 0 0
--            fixed 3 10 60000000 '' '' '' r:api:wake → 3
local GIVE = {
  fixed = give_fixed,
  counter = give_counter,
  log = give_log,
  bucketed = give_bucketed,
  gcra = give_gcra,
}

local refunds, id, life = KEYS[2], ARGV[1], tonumber(ARGV[2])
if redis.call('ZSCORE', refunds, id) then
  return 0
end
local give, cost = GIVE[ARGV[6]], tonumber(ARGV[7])
local given = give(KEYS[1], cost, 8, tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]))
if given > 0 then
  redis.call('ZREMRANGEBYSCORE', refunds, '-inf', now)
  local ends = math.max(now + life, ARGV[3] + 1)
  redis.call('ZADD', refunds, ends, id)
  local ttl = math.ceil((ends - now) / 1000) + 1
  redis.call('PEXPIRE', refunds, math.max(ttl, redis.call('PTTL', refunds)))
  queue_wake(KEYS[3], ARGV[13], '')
end
return given
