-- Publishes a message of a topic, unless one with its id is known already.
--
-- Needs clock.lua, wake_up.lua and topic_entry.lua before it.
--
-- KEYS[1]  the stream
-- KEYS[2]  the messages that wait for their time (sorted set: id by due time, µs)
-- KEYS[3]  their bodies (hash: id → see `pack_body`)
-- KEYS[4]  the deduplication record of the id (hash: `e` the entry, '' while the message waits for its time; `d` that
--          field of the entry; `i` the id; `b` the message that is kept to be published next)
-- ARGV[1]  deduplication: `none`, `for` (a time), `done` (until every group has acknowledged it), `debounce` (the later
--          one replaces the one that waits), `last` (the last one is kept while one is under way)
-- ARGV[2]  for how long the record lasts (ms)
-- ARGV[3]  due: '' at once, `+<µs>` after a time, `<µs since 1970>` at a time
-- ARGV[4]  the message's id    ARGV[5]  its key    ARGV[6]  its headers (JSON)    ARGV[7]  the message
-- ARGV[8]  the channel of wake-ups, '' for none    ARGV[9]  the name to wake
-- Reply    {entry id or '', `new`, `known`, `replaced` or `kept`}
-- Example  EVALSHA … 4 ns:topic:mail:{mail.0} ns:topic:mail:{mail.0}:delayed ns:topic:mail:{mail.0}:bodies ns:topic:mail:{mail.0}:id:order-7
--            for 3600000 '' order-7 '' '{}' '"packed"' '' '' → {"1764428400000-0", "new"}
local stream, delayed, bodies, record = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local mode, due, id, key, headers, message = ARGV[1], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local at = now
if string.sub(due, 1, 1) == '+' then
  at = now + string.sub(due, 2)
elseif due ~= '' then
  at = tonumber(due)
end

local recorded = '0'
if mode == 'done' or mode == 'last' then
  recorded = at > now and string.format('%.0f', now) or '1'
end

-- Lets the record last for the time of one whose message waits no more (ms), and as long as the message waits before.
local function keep_record(ttl)
  local waits_until = redis.call('ZSCORE', delayed, id)
  local waits = waits_until and math.max(0, math.ceil((waits_until - now) / 1000)) or 0
  redis.call('PEXPIRE', record, ttl + waits)
end

if mode == 'debounce' then
  if redis.call('ZSCORE', delayed, id) then
    redis.call('ZADD', delayed, at, id)
    local waiting = redis.call('HGET', bodies, id)
    if waiting then
      -- The record goes on to be the record of the message that waits, and ends with that.
      local _, _, _, recorded_by = unpack_body(waiting)
      recorded = recorded_by
    end
    if recorded ~= '0' and redis.call('HGET', record, 'd') == recorded then
      keep_record(30 * 86400000)
    end
    redis.call('HSET', bodies, id, pack_body(key, headers, message, recorded))
    return { '', 'replaced' }
  end
elseif mode ~= 'none' then
  -- One that waits for its time is known for as long, whatever became of its record.
  local entry, of = unpack(redis.call('HMGET', record, 'e', 'd'))
  local waiting = not entry and redis.call('ZSCORE', delayed, id) and redis.call('HGET', bodies, id)
  if waiting then
    local _, _, _, recorded_by = unpack_body(waiting)
    entry, of = '', recorded_by
  end
  if entry then
    -- The end of a message that is known for a time only is not looked at: what it kept would never be published.
    if mode == 'last' and of ~= '0' then
      redis.call('HSET', record, 'e', entry, 'd', of, 'i', id, 'b', pack_body(key, headers, message, recorded))
      keep_record(ARGV[2])
      return { entry, 'kept' }
    end
    return { entry, 'known' }
  end
end

local entry = ''
if at > now then
  redis.call('ZADD', delayed, at, id)
  redis.call('HSET', bodies, id, pack_body(key, headers, message, recorded))
else
  entry = add_entry(stream, id, key, headers, message, '', recorded)
  if ARGV[8] ~= '' then
    wake_up(ARGV[8], ARGV[9])
  end
end
if mode ~= 'none' and mode ~= 'debounce' then
  redis.call('HSET', record, 'e', entry, 'd', recorded, 'i', id)
  redis.call('PEXPIRE', record, ARGV[2] + math.max(0, math.ceil((at - now) / 1000)))
end
return { entry, 'new' }
