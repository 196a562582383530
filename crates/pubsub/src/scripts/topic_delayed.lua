-- Part: moves messages whose time has come into the stream. Needs clock.lua and topic_entry.lua before it.
local function move_delayed(stream, delayed, bodies)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 100)) do
    local body = redis.call('HGET', bodies, id)
    if redis.call('ZREM', delayed, id) == 1 and body then
      local key, headers, message, recorded = unpack_body(body)
      redis.call('HDEL', bodies, id)
      add_entry(stream, id, key, headers, message, '', recorded)
    end
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
