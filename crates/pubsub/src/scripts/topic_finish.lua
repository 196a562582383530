-- Part: what happens to an entry that a group has acknowledged. Needs topic_entry.lua before it.

local function id_parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local function is_before(a, b)
  local a_ms, a_seq = id_parts(a)
  local b_ms, b_seq = id_parts(b)
  return a_ms < b_ms or (a_ms == b_ms and a_seq < b_seq)
end

-- Gives a function that says of an entry whether every group has acknowledged it.
local function done_by_all(stream)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  local marks = {}
  for _, flat in ipairs(groups.err and {} or groups) do
    local group = fields_of(flat)
    local pending = redis.call('XPENDING', stream, group['name'])
    marks[#marks + 1] = { group['name'], group['last-delivered-id'], pending[2], pending[3] }
  end
  return function(id)
    for _, mark in ipairs(marks) do
      local name, last, first_pending, last_pending = mark[1], mark[2], mark[3], mark[4]
      if is_before(last, id) then
        return false
      end
      local may_be_pending = first_pending and not is_before(id, first_pending) and not is_before(last_pending, id)
      if may_be_pending and #redis.call('XPENDING', stream, name, id, id, 1) > 0 then
        return false
      end
    end
    return not groups.err
  end
end

-- The entry is done: deletes its deduplication record, or publishes the message that the record keeps.
local function let_go(stream, id, record, recorded)
  local of = redis.pcall('HGET', record, 'e')
  if type(of) == 'table' then
    -- Something else stands there, of another program: no reason to keep the entries behind it from their records.
    return
  end
  -- Of a message that had to wait for its time the record does not know the entry. The record may be that of a later
  -- message with the same id.
  if of == '' then
    of = redis.call('HGET', record, 'd') == recorded and id
  end
  if of ~= id then
    return
  end
  local kept = redis.call('HGET', record, 'b')
  if kept then
    local key, headers, message = unpack_body(kept)
    local message_id = redis.call('HGET', record, 'i')
    local next_id = add_entry(stream, message_id, key, headers, message, '', '1')
    redis.call('HSET', record, 'e', next_id, 'd', '1')
    redis.call('HDEL', record, 'b')
    redis.call('PEXPIRE', record, 30 * 86400000)
  else
    redis.call('DEL', record)
  end
end

-- Acknowledges an entry. In a topic that is a queue the entry is deleted once every group has; then its
-- deduplication record (`record`, when `recorded` is not 0) is deleted, or the message that it keeps is published.
-- Gives 1 when the entry was pending.
local function finish(stream, group, id, record, recorded, retention)
  local acknowledged = redis.call('XACK', stream, group, id)
  if retention ~= 'queue' or not done_by_all(stream)(id) then
    return acknowledged
  end
  redis.call('XDEL', stream, id)
  if recorded ~= '0' and acknowledged == 1 then
    let_go(stream, id, record, recorded)
  end
  return acknowledged
end
