-- Publishes a message of a channel with replay: numbers it, keeps it in the log, tells the subscribers.
--
-- The number is the server's time in µs, and always greater than the one before it: also after a failover that
-- lost messages, as far as the clocks of the servers agree. Each message names the one before it, so that a
-- subscriber sees whether it has missed any.
--
-- KEYS[1]  the log (stream; id `<number>-0`, fields `p` the number before, `m` the message)
-- KEYS[2]  the last number (string)
-- KEYS[3]  the channel, when it is sharded
-- ARGV[1]  the channel
-- ARGV[2]  PUBLISH or SPUBLISH
-- ARGV[3]  how many messages the log keeps at most
-- ARGV[4]  for how long the log keeps a message (µs)
-- ARGV[5]  time to live of the last number (ms)
-- ARGV[6]  the message
-- Reply    {number, how many subscribers the server told}
-- Example  EVALSHA … 2 ns:channel:orders:{ann}:log ns:channel:orders:{ann}:last ns:channel:orders:{ann}
--            PUBLISH 1000 600000000 86400000 "packed" → {1764428400000000, 2}
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local before = tonumber(redis.call('GET', KEYS[2]) or '')
if not before then
  local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  before = newest and tonumber(string.match(newest[1], '^%d+')) or 0
end
local number = math.max(before + 1, now)
local text, link = string.format('%.0f', number), string.format('%.0f', before)
redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[3], text .. '-0', 'p', link, 'm', ARGV[6])
redis.call('XTRIM', KEYS[1], 'MINID', '=', string.format('%.0f', math.max(0, number - ARGV[4])))
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[4] / 1000))
redis.call('SET', KEYS[2], text, 'PX', ARGV[5])
local told = redis.call(ARGV[2], ARGV[1], link .. ' ' .. text .. '\n' .. ARGV[6])
return { number, told }
