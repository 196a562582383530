-- Gives the owner of a partition its next entries, in their order: first those that are not acknowledged, then new ones.
--
-- Needs clock.lua, topic_entry.lua and topic_delayed.lua before it.
--
-- KEYS[1]  the stream    KEYS[2]  the delayed messages    KEYS[3]  their bodies    KEYS[4]  the topic's state
-- KEYS[5]  the owner's token
-- ARGV[1]  the group    ARGV[2]  the consumer    ARGV[3]  how many at most
-- ARGV[4]  1 when the owner is new: then the first entry that is not acknowledged is an attempt more. Once for each owner:
--          a new one asks again when the reply was lost, and nobody has begun what that reply brought
-- ARGV[5]  the caller's token
-- Reply    as topic_tick.lua, and -2 for a caller that does not own the partition
-- Example  EVALSHA … 5 ns:topic:mail:{mail.0} … senders ordered 1 1 9f2c… → {0, -1, {}}
if redis.call('GET', KEYS[5]) ~= ARGV[5] then
  return { -2, -1, {} }
end
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
move_delayed(stream, KEYS[2], KEYS[3])
if not has_group(stream, group) then
  return { -1, -1, {} }
end

local taken = {}
local is_paused = redis.call('HEXISTS', KEYS[4], 'paused:' .. group)
local is_new = ARGV[4] == '1' and redis.call('HGET', KEYS[4], 'taken:' .. group) ~= ARGV[5]
local head
if is_new then
  -- Whatever it finds: the first call may arrive after its repetition. The first needs no memory: after it Redis lets the
  -- script go on though there is none.
  redis.call('HDEL', KEYS[4], 'taken:' .. group)
  redis.call('HSET', KEYS[4], 'taken:' .. group, ARGV[5])
  head = redis.call('XPENDING', stream, group, '-', '+', 1)[1]
end
if head then
  redis.call('XCLAIM', stream, group, consumer, 0, head[1], 'RETRYCOUNT', head[4] + 1, 'JUSTID')
end
if is_paused == 0 then
  -- XREADGROUP of what is pending would count a delivery.
  for _, row in ipairs(redis.call('XPENDING', stream, group, '-', '+', ARGV[3])) do
    local entry = redis.call('XRANGE', stream, row[1], row[1])[1]
    if entry then
      taken[#taken + 1] = { entry[1], entry[2], row[4] }
    else
      -- It was deleted while it was pending.
      redis.call('XACK', stream, group, row[1])
    end
  end
  if #taken == 0 then
    local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', ARGV[3], 'STREAMS', stream, '>')
    for _, entry in ipairs(read and read[1] and read[1][2] or {}) do
      taken[#taken + 1] = { entry[1], entry[2], 1 }
    end
  end
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
return { is_paused, first and math.max(0, first - now) or -1, taken }
