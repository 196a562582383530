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
    redis.call('XDEL', stream, unpack(ARGV, 5, 4 + count))
    return acknowledged
  end
end
