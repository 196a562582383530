-- Makes sure that a group exists.
--
-- A group that the state knows, and the stream does not, was lost: it is made anew from the beginning, by a worker, which tells
-- of it.
--
-- KEYS[1]  the stream
-- KEYS[2]  the topic's state (hash: `mode:<group>` `shared` or `ordered`, `made:<group>` by which call it was made,
--          `paused:<group>` 1, `taken:<group>` of `topic_take.lua`)
-- ARGV[1]  the group    ARGV[2]  where a new one begins: `0` or `$`    ARGV[3]  `shared` or `ordered`
-- ARGV[4]  the call's token, the same in all its repetitions    ARGV[5]  1 when a group that was lost is left as it is
-- Reply    {1 when this call made it, 2 when this call made it and it had been lost, 3 when it is lost and was left so,
--          otherwise 0; its mode}
-- Example  EVALSHA … 2 ns:topic:mail:{mail.0} ns:topic:mail:{mail.0}:state senders 0 shared 9f2c… 0 → {1, "shared"}
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
local exists = false
if not groups.err then
  for _, group in ipairs(groups) do
    for i = 1, #group, 2 do
      if group[i] == 'name' and group[i + 1] == ARGV[1] then
        exists = true
      end
    end
  end
end
local mode, made = 'mode:' .. ARGV[1], 'made:' .. ARGV[1]
local was_known = redis.call('HEXISTS', KEYS[2], mode) == 1
if not exists or not was_known then
  -- This changes nothing, as no field is empty, and needs no memory: after it a server that is full lets the script go on. A
  -- group takes little, and what fills the server is drained by groups alone.
  redis.call('HDEL', KEYS[2], '')
end
if exists then
  if not was_known then
    redis.call('HSET', KEYS[2], mode, ARGV[3])
  end
elseif was_known and ARGV[5] == '1' then
  return { 3, redis.call('HGET', KEYS[2], mode) }
else
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], was_known and '0' or ARGV[2], 'MKSTREAM')
  redis.call('HSET', KEYS[2], mode, ARGV[3], made, (was_known and 'lost ' or 'new ') .. ARGV[4])
end
local by = redis.call('HGET', KEYS[2], made)
local this = by == 'lost ' .. ARGV[4] and 2 or by == 'new ' .. ARGV[4] and 1 or 0
return { this, redis.call('HGET', KEYS[2], mode) }
