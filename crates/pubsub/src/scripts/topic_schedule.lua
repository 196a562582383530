-- Publishes a tick of a schedule, unless some process has published it, or a later one.
--
-- Needs clock.lua, wake_up.lua and topic_entry.lua before it.
--
-- KEYS[1]  the stream    KEYS[2]  the delayed messages    KEYS[3]  their bodies    KEYS[4]  the topic's state
-- ARGV[1]  the schedule's name    ARGV[2]  the tick (µs since 1970)    ARGV[3]  the message's id    ARGV[4]  its key
-- ARGV[5]  its headers (JSON)    ARGV[6]  the message    ARGV[7]  the channel of wake-ups, '' for none
-- ARGV[8]  the name to wake
-- Reply    1 when it was published, otherwise 0
-- Example  EVALSHA … 4 ns:topic:mail:{mail.0} … report 1764374400000000 report@2025-11-29T00:00:00Z '' '{}' '1' '' '' → 1
local tick = tonumber(ARGV[2])
local last = tonumber(redis.call('HGET', KEYS[4], 'tick:' .. ARGV[1]) or '') or 0
if tick <= last then
  return 0
end
redis.call('HSET', KEYS[4], 'tick:' .. ARGV[1], ARGV[2])
if tick > now then
  redis.call('ZADD', KEYS[2], tick, ARGV[3])
  redis.call('HSET', KEYS[3], ARGV[3], pack_body(ARGV[4], ARGV[5], ARGV[6], '0'))
else
  add_entry(KEYS[1], ARGV[3], ARGV[4], ARGV[5], ARGV[6], '', '0')
  if ARGV[7] ~= '' then
    wake_up(ARGV[7], ARGV[8])
  end
end
return 1
