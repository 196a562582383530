-- Makes sure that a group exists.
--
-- KEYS[1]  the stream
-- KEYS[2]  the topic's state (hash: `mode:<group>` `shared` or `ordered`, `paused:<group>` 1)
-- ARGV[1]  the group    ARGV[2]  where a new one begins: `0` or `$`    ARGV[3]  `shared` or `ordered`
-- Reply    {1 when it was made, its mode}
-- Example  EVALSHA … 2 ns:topic:mail:{mail.0} ns:topic:mail:{mail.0}:state senders 0 shared → {1, "shared"}
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
local made = 1
if not groups.err then
  for _, group in ipairs(groups) do
    for i = 1, #group, 2 do
      if group[i] == 'name' and group[i + 1] == ARGV[1] then
        made = 0
      end
    end
  end
end
local field = 'mode:' .. ARGV[1]
if made == 1 then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'MKSTREAM')
  redis.call('HSET', KEYS[2], field, ARGV[3])
else
  redis.call('HSETNX', KEYS[2], field, ARGV[3])
end
return { made, redis.call('HGET', KEYS[2], field) }
