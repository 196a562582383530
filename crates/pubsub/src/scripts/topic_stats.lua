-- How a group stands on one partition of a topic.
--
-- Needs clock.lua and topic_entry.lua before it.
--
-- KEYS[1]  the stream    KEYS[2]  the delayed messages    KEYS[3]  the topic's state    KEYS[4]  the group's retries
-- KEYS[5]  its dead letters    KEYS[6]  the members of an ordered group, which the first partition has
-- ARGV[1]  the group    ARGV[2]  the name of `waiting`    ARGV[3]  the lease (ms)
-- Reply    {length, delayed messages that are not due, dead, retries, 1 when paused, lag or -1, pending, age of the oldest
--          pending entry (ms), entries in the hands of consumers, live consumers (of an ordered group its members), age of
--          the oldest message that was not delivered (ms) or -1, delayed messages that are due}. To a group that is not there nothing was delivered.
--          A delayed message that is due, and that nobody has moved into the stream, was delivered to no group: its age is the
--          time since it was due. It is not part of the lag.
-- Example  EVALSHA … 5 ns:topic:mail:{mail.0} … senders ~waiting 30000 → {12, 0, 1, 2, 0, 5, 4, 1200, 2, 3, 800, 0}
local lag, pending, age, held, live, undelivered = -1, 0, 0, 0, 0, -1
local function age_of(id)
  return math.max(0, math.floor(now / 1000) - tonumber(string.match(id, '^%d+')))
end
-- The partitions of an ordered group have one consumer each, whoever owns them.
local is_ordered = redis.call('HGET', KEYS[3], 'mode:' .. ARGV[1]) == 'ordered'
if is_ordered and KEYS[6] then
  live = redis.call('ZCOUNT', KEYS[6], '(' .. string.format('%.0f', now), '+inf')
end
local function undelivered_from(position)
  local first = redis.call('XRANGE', KEYS[1], position, '+', 'COUNT', 1)[1]
  return first and age_of(first[1]) or -1
end
local is_there = false
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if not groups.err then
  for _, flat in ipairs(groups) do
    local group = fields_of(flat)
    if group['name'] == ARGV[1] then
      is_there = true
      lag = tonumber(group['lag']) or -1
      local summary = redis.call('XPENDING', KEYS[1], ARGV[1])
      pending = summary[1]
      if summary[2] then
        age = age_of(summary[2])
      end
      undelivered = undelivered_from('(' .. group['last-delivered-id'])
      for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
        local consumer = fields_of(row)
        if consumer['name'] ~= ARGV[2] then
          held = held + consumer['pending']
          if not is_ordered and consumer['idle'] <= tonumber(ARGV[3]) then
            live = live + 1
          end
        end
      end
    end
  end
end
if not is_there then
  undelivered = undelivered_from('-')
end
local due = redis.call('ZCOUNT', KEYS[2], '-inf', now)
if due > 0 then
  local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  undelivered = math.max(undelivered, math.floor((now - first[2]) / 1000))
end
return {
  redis.call('XLEN', KEYS[1]), redis.call('ZCARD', KEYS[2]) - due, redis.call('XLEN', KEYS[5]),
  redis.call('ZCARD', KEYS[4]), redis.call('HEXISTS', KEYS[3], 'paused:' .. ARGV[1]), lag, pending, age, held, live,
  undelivered, due,
}
