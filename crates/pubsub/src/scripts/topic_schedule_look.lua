-- Gives the server's time and the last tick of a schedule. A new schedule begins now.
--
-- Needs clock.lua before it.
--
-- KEYS[1]  the topic's state (hash; `tick:<name>` the last tick of a schedule, µs since 1970)
-- ARGV[1]  the schedule's name
-- Reply    {now, the last tick (µs since 1970)}
-- Example  EVALSHA … 1 ns:topic:mail:{mail.0}:state report → {1764428400000000, 1764374400000000}
redis.call('HSETNX', KEYS[1], 'tick:' .. ARGV[1], string.format('%.0f', now))
return { now, tonumber(redis.call('HGET', KEYS[1], 'tick:' .. ARGV[1])) }
