-- Puts an item into a user's inbox and tells those who are connected.
--
-- KEYS[1]  the items (stream; fields `e` the inbox's epoch, `n` the item's number, `m` the item)
-- KEYS[2]  the state (hash; `e` the epoch: when it was made, µs; `n` the last number, `d` the last id that was dropped for want of room,
--          `r:<token>` a reading: `<first id> <last id> <until, µs>`)
-- KEYS[3]  the record of the push's id (string: what the first push with it gave, `<id> <dropped>`), when it has one
-- ARGV[1]  the channel of those who are connected
-- ARGV[2]  how many items the inbox keeps at most
-- ARGV[3]  time to live (ms)
-- ARGV[4]  the item
-- ARGV[5]  for how long the record lasts (ms), when there is one
-- Reply    {id, how many items were dropped to make room, 1 when one with the push's id was pushed before, otherwise 0}
-- Example  EVALSHA … 3 ns:inbox:notes:{ann} ns:inbox:notes:{ann}:state ns:inbox:notes:{ann}:id:order-7
--            ns:inbox:notes:{ann}:live 100 2592000000 "shipped" 86400000 → {"1764428400000-0", 0, 0}
if KEYS[3] then
  local known = redis.call('GET', KEYS[3])
  if known then
    local id, dropped = string.match(known, '^(%S+) (%d+)$')
    return { id, tonumber(dropped), 1 }
  end
end
local epoch = redis.call('HGET', KEYS[2], 'e')
if not epoch then
  -- Numbers begin anew, and ids may: subscribers tell by the epoch that the inbox was lost.
  local time = redis.call('TIME')
  epoch = string.format('%.0f', time[1] * 1000000 + time[2])
  redis.call('HSET', KEYS[2], 'e', epoch)
end
local number = redis.call('HINCRBY', KEYS[2], 'n', 1)
local dropped = math.max(0, redis.call('XLEN', KEYS[1]) + 1 - ARGV[2])
if dropped > 0 then
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', dropped)
  redis.call('HSET', KEYS[2], 'd', oldest[dropped][1])
end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[2], '*', 'e', epoch, 'n', number, 'm', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PUBLISH', ARGV[1], epoch .. ' ' .. id .. ' ' .. number .. '\n' .. ARGV[4])
if KEYS[3] then
  redis.call('SET', KEYS[3], id .. ' ' .. dropped, 'PX', ARGV[5])
end
return { id, dropped, 0 }
