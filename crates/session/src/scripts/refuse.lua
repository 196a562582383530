-- Ends `commit.lua`: ends a session that is over, or makes room in one that would be too large.
if is_over then
  local over = now >= absolute and 2 or 3
  finish(user, ARGV[1], over)
  return { over }
end
-- Entries that have expired need no room, and a session that is over a lowered limit may shrink.
local left = expire_entries(redis.call('HGETALL', KEYS[1]), tonumber(found[5]))
redis.call('HSET', KEYS[1], 'z', left)
bytes = left + grown
for at = 7, #fields do
  bytes = bytes - size(string.sub(fields[at], 2), redis.call('HGET', KEYS[1], fields[at]))
end
if bytes > most and bytes > left then
  return { 6, bytes }
end
return store()
