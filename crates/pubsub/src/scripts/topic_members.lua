-- Says that a worker of an ordered group is alive.
--
-- Needs clock.lua before it.
--
-- KEYS[1]  the members (sorted set: worker by when it is taken for dead, µs)
-- ARGV[1]  the worker    ARGV[2]  the lease (ms)
-- Reply    {how many members there are, how many of them are before the worker by name}
-- Example  EVALSHA … 1 ns:topic:mail:{mail.0}:members:senders 0198… 30000 → {3, 1}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2] * 1000, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
local before = 0
for _, member in ipairs(members) do
  if member < ARGV[1] then
    before = before + 1
  end
end
return { #members, before }
