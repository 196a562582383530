-- What a consumer does now and then: moves messages whose time has come into the stream, and takes entries whose retry
-- is due or whose consumer is dead.
--
-- Needs clock.lua, topic_entry.lua and topic_delayed.lua before it.
--
-- A consumer is dead when it gave no sign of life for a lease. Entries that wait for a retry stay pending, owned by
-- the consumer `waiting`, with the number of their deliveries.
--
-- KEYS[1]  the stream    KEYS[2]  the delayed messages    KEYS[3]  their bodies    KEYS[4]  the topic's state
-- KEYS[5]  the group's retries (sorted set: entry by due time, µs)
-- ARGV[1]  the group    ARGV[2]  the consumer    ARGV[3]  the name of `waiting`    ARGV[4]  the lease (ms)
-- ARGV[5]  how many entries to take at most    ARGV[6]  1 to look for dead consumers
-- Reply    {0, or 1 when the group is paused, or -1 when there is no such group; µs until something is due, or -1;
--          the entries that were taken: {{id, fields, deliveries}, …}}
-- Example  EVALSHA … 5 ns:topic:mail:{mail.0} … senders 0198… ~waiting 30000 16 1 → {0, 250000, {}}
local stream, delayed, bodies, state, retries = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, consumer, waiting, lease, room = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

move_delayed(stream, delayed, bodies)
if not has_group(stream, group) then
  return { -1, -1, {} }
end

-- A sign of life: this reads nothing, as no entry has a greater id. (The greatest id of all means `>` to servers.)
local beyond = '18446744073709551615-18446744073709551614'
redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, beyond)

local taken = {}
local function take(id, idle)
  local entry = redis.call('XCLAIM', stream, group, consumer, idle, id)[1]
  if entry and entry[2] then
    local row = redis.call('XPENDING', stream, group, id, id, 1)[1]
    taken[#taken + 1] = { entry[1], entry[2], row[4] }
  end
end

local is_paused = redis.call('HEXISTS', state, 'paused:' .. group)
if is_paused == 0 then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', retries, '-inf', now, 'LIMIT', 0, room)) do
    redis.call('ZREM', retries, id)
    -- In a group that was made anew it may be a consumer's.
    local row = redis.call('XPENDING', stream, group, id, id, 1)[1]
    if row and row[2] == waiting then
      take(id, 0)
    end
  end
end

if ARGV[6] == '1' then
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local other = fields_of(flat)
    if other['name'] == waiting then
      if other['pending'] > redis.call('ZCARD', retries) then
        -- The retries were lost, the pending list was not.
        for _, row in ipairs(redis.call('XPENDING', stream, group, '-', '+', 1000, waiting)) do
          redis.call('ZADD', retries, 'NX', now, row[1])
        end
      end
    elseif other['name'] ~= consumer and other['idle'] > lease then
      if other['pending'] == 0 then
        redis.call('XGROUP', 'DELCONSUMER', stream, group, other['name'])
      elseif is_paused == 0 and #taken < room then
        -- A consumer that was silent for a lease has no younger entry. XCLAIM asks for the idle time once more; IDLE
        -- only keeps entries that it would refuse from taking the room.
        local rows = redis.call('XPENDING', stream, group, 'IDLE', lease, '-', '+', room - #taken, other['name'])
        for _, row in ipairs(rows) do
          take(row[1], lease)
        end
      end
    end
  end
end

local next_due = -1
for _, set in ipairs({ delayed, retries }) do
  local first = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2]
  if first and (set == delayed or is_paused == 0) then
    local left = math.max(0, first - now)
    next_due = next_due < 0 and left or math.min(next_due, left)
  end
end
return { is_paused, next_due, taken }
