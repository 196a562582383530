-- Part: the fast way of topic_ack.lua, for entries without a record of a log, or of a queue with one group. It stands
-- before the functions that the others need, because a script makes its functions anew with each call.
local stream, group, retention, count, recorded = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local acknowledged = 0
if count > recorded then
  acknowledged = redis.call('XACK', stream, group, unpack(ARGV, 5 + recorded, 4 + count))
end
if recorded == 0 then
  if retention ~= 'queue' then
    return acknowledged
  end
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  -- The only group is this one. An entry that was not pending may yet be to come, in a group that was made anew.
  if acknowledged == count and #groups == 1 then
    local pending, lag, bound = 0, false, nil
    for i = 1, #groups[1], 2 do
      local name, value = groups[1][i], groups[1][i + 1]
      if name == 'pending' then
        pending = value
      elseif name == 'last-delivered-id' then
        bound = value
      elseif name == 'lag' then
        lag = value
      end
    end
    -- The server looks for each entry that is deleted by its id; the oldest ones it cuts off together. These are the oldest
    -- when the stream holds nothing else but what is pending and what is to come, and all of that stands behind them. Where
    -- somebody deletes pending entries by hand, what a destroyed group left may be cut off as well: its id stays known for its time.
    local last = ARGV[4 + count]
    if count > 2 and lag and redis.call('XLEN', stream) == count + pending + lag then
      local beyond = 1
      if pending > 0 then
        bound, beyond = redis.call('XPENDING', stream, group)[2], 0
      end
      local ms, seq = string.match(last, '^(%d+)-(%d+)$')
      local bound_ms, bound_seq = string.match(bound, '^(%d+)-(%d+)$')
      ms, bound_ms = tonumber(ms), tonumber(bound_ms)
      if ms < bound_ms or (ms == bound_ms and tonumber(seq) < bound_seq + beyond) then
        -- Without the right to do so each one is looked for.
        local cut = redis.pcall('XTRIM', stream, 'MINID', '=', last)
        if type(cut) == 'number' then
          redis.call('XDEL', stream, last)
          return acknowledged
        end
      end
    end
    redis.call('XDEL', stream, unpack(ARGV, 5, 4 + count))
    return acknowledged
  end
end
