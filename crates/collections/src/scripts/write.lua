-- One write command, and a time to live for its key in the same step: there is no moment at which
-- the key is there without one.
--
-- KEYS[1]   the key that gets the time to live
-- KEYS[2..] the command's other keys, which stand in ARGV too; here they are declared
-- ARGV[1]   milliseconds
-- ARGV[2]   'create': only if the key has no time to live yet; 'write': anew
-- ARGV[3]   'once'; 'refusable': a reply of nothing, 0 or -1 means that nothing was done, and leaves
--           the time as it is. The others are commands with any number of items, which are carried
--           out in parts when there are more than Lua can pass on: 'sum' or 'last'; 'changed': a sum
--           of 0 means that nothing was done; 'grown': the same for a ZADD with CH, of which the
--           reply is by how much the set grew
-- ARGV[4]   how many of the following stand before the items
-- ARGV[5..] the command: its name, keys and arguments
--
-- Reply: the command's; of a command in parts their sum, or the last; the growth.
-- Example: EVALSHA … 1 tags 60000 create sum 2 SADD tags "red" "blue" → 2

local ttl, policy, shape, head = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local FIRST = 5
-- Even, so that pairs stay together; with the head, below Lua's limit of 8,000.
local MOST = 7000

local function expire()
  if policy == 'create' then
    redis.call('PEXPIRE', KEYS[1], ttl, 'NX')
  else
    redis.call('PEXPIRE', KEYS[1], ttl)
  end
end

-- Whole, whatever its length: in parts it would be another command. One that is too long fails here
-- before anything is called.
if shape == 'once' or shape == 'refusable' then
  local reply = redis.call(unpack(ARGV, FIRST))
  if shape == 'once' or (reply and reply ~= 0 and reply ~= -1) then
    expire()
  end
  return reply
end

local function call_part(from)
  if #ARGV - FIRST < MOST then
    return redis.call(unpack(ARGV, FIRST))
  end
  local part = {}
  for i = FIRST, FIRST + head - 1 do
    part[#part + 1] = ARGV[i]
  end
  for i = from, math.min(from + MOST - 1, #ARGV) do
    part[#part + 1] = ARGV[i]
  end
  return redis.call(unpack(part))
end

local before = 0
if shape == 'grown' then
  before = redis.call('ZCARD', KEYS[1])
end
local is_conditional = shape == 'grown' or shape == 'changed'
local reply, sum, has_time = nil, 0, false
for from = FIRST + head, #ARGV, MOST do
  reply = call_part(from)
  sum = sum + reply
  if not has_time and (sum > 0 or not is_conditional) then
    -- Before the next part, which could fail.
    expire()
    has_time = true
  end
end
if shape == 'grown' then
  return redis.call('ZCARD', KEYS[1]) - before
end
if shape == 'last' then
  return reply
end
return sum
