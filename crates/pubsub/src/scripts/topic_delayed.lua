-- Part: moves messages whose time has come into the stream. Needs clock.lua and topic_entry.lua before it.
local function move_delayed(stream, delayed, bodies)
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 100)
  if #due > 0 then
    -- This changes nothing, as no id is empty, and needs no memory: after it a server that is full lets the script go on. A
    -- message that is due would else keep its consumers from what they would drain.
    redis.call('HDEL', bodies, '')
  end
  for _, id in ipairs(due) do
    local body = redis.call('HGET', bodies, id)
    if body then
      -- First of all: should it fail, nothing is gone.
      local key, headers, message, recorded = unpack_body(body)
      add_entry(stream, id, key, headers, message, '', recorded)
      redis.call('HDEL', bodies, id)
    end
    redis.call('ZREM', delayed, id)
  end
end

local function has_group(stream, group)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if not groups.err then
    for _, flat in ipairs(groups) do
      if fields_of(flat)['name'] == group then
        return true
      end
    end
  end
  return false
end
