-- Notes a session that is about to be stored under a named index.
--
-- KEYS  1 index: hash, `<tag>:<hash of the id>` → absolute deadline (µs), or `!` while it is being revoked
-- ARGV  1 `<tag>:<hash of the id>`   2 lifetime (µs), or empty   3 absolute deadline (µs), without a lifetime
--       4 most sessions   5 `present` where only a session that stands there, and is not being revoked, gets another
--         deadline; or empty
-- Reply 1 done, 0 there are too many, or none that stands there
--
-- Example: EVALSHA … 1 session:web:{Vw…}:indexed 907:pZ… 28800000000 "" 1000 ""  →  1
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if ARGV[5] ~= '' then
  local stands = redis.call('HGET', KEYS[1], ARGV[1])
  if not stands or stands == '!' then
    return 0
  end
  -- Out of memory, the server refuses a script whose first write may grow. No session has this name.
  redis.call('HDEL', KEYS[1], '')
end
local flat, count = redis.call('HGETALL', KEYS[1]), 0
for at = 1, #flat, 2 do
  local deadline = tonumber(flat[at + 1])
  if deadline and deadline <= now then
    redis.call('HDEL', KEYS[1], flat[at])
  else
    count = count + 1
  end
end
if count >= tonumber(ARGV[4]) and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return 0
end
local absolute = ARGV[2] ~= '' and now + ARGV[2] or tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', absolute))
local millis = string.format('%.0f', math.ceil(absolute / 1000) + 60000)
if redis.call('PTTL', KEYS[1]) == -1 then
  redis.call('PEXPIREAT', KEYS[1], millis)
else
  redis.call('PEXPIREAT', KEYS[1], millis, 'GT')
end
return 1
