-- Confirms an earlier reading of a user's inbox, and hands out what nobody else is reading.
--
-- What is handed out stays in the inbox until its reading is confirmed, so a reply that is lost loses nothing; and
-- nobody else is given it until the reading's time is over. Items that arrive meanwhile are in no reading, so
-- confirming cannot remove them. The same token again gives the same items again.
--
-- KEYS[1]  the items, KEYS[2] the state: see `inbox_push.lua`
-- ARGV[1]  the token of the reading to confirm; '' for none
-- ARGV[2]  the token of the new reading; '' to confirm only
-- ARGV[3]  for how long the new reading is kept from others (µs)
-- ARGV[4]  how many items to hand out at most
-- Reply    {how many items were removed by the confirmation, how many are in the inbox, the items as XRANGE gives them}
-- Example  EVALSHA … 2 ns:inbox:notes:{ann} ns:inbox:notes:{ann}:state '' 9f2c 30000000 100
--            → {0, 1, {{"1764428400000-0", {"e", "1764428399000000", "n", "1", "m", "shipped"}}}}
local items, state = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function parse(reading)
  return string.match(reading, '^(%S+) (%S+) (%S+)$')
end

local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local function is_before(a, b)
  local a_ms, a_seq = parts(a)
  local b_ms, b_seq = parts(b)
  return a_ms < b_ms or (a_ms == b_ms and a_seq < b_seq)
end

local removed = 0
if ARGV[1] ~= '' then
  local reading = redis.call('HGET', state, 'r:' .. ARGV[1])
  if reading then
    local first, last = parse(reading)
    for _, item in ipairs(redis.call('XRANGE', items, first, last)) do
      removed = removed + redis.call('XDEL', items, item[1])
    end
    redis.call('HDEL', state, 'r:' .. ARGV[1])
  end
end
if ARGV[2] == '' then
  return { removed, redis.call('XLEN', items), {} }
end

local own
local others = {}
local fields = redis.call('HGETALL', state)
for i = 1, #fields, 2 do
  local token = string.match(fields[i], '^r:(.*)$')
  if token then
    local first, last, till = parse(fields[i + 1])
    if token == ARGV[2] then
      own = { first, last }
    elseif tonumber(till) <= now then
      redis.call('HDEL', state, fields[i])
    else
      others[#others + 1] = { first, last }
    end
  end
end

-- The first item that is in no reading, and where the next reading begins: a reading is one stretch. Stretches that
-- others have are jumped over, so a reading costs the other readings and its own items, however many items there are.
local from, till = '-', '+'
if own then
  from, till = own[1], own[2]
else
  table.sort(others, function(a, b)
    return is_before(a[1], b[1])
  end)
  for _, reading in ipairs(others) do
    if #redis.call('XRANGE', items, from, '(' .. reading[1], 'COUNT', 1) > 0 then
      till = '(' .. reading[1]
      break
    end
    from = '(' .. reading[2]
  end
end
local taken = redis.call('XRANGE', items, from, till, 'COUNT', ARGV[4])

if #taken > 0 then
  -- This changes nothing, as no field is empty, and needs no memory: after it a server that is full lets the script go on. What
  -- cannot be read is not confirmed, and takes its room.
  redis.call('HDEL', state, '')
  local reading = taken[1][1] .. ' ' .. taken[#taken][1] .. ' ' .. string.format('%.0f', now + ARGV[3])
  redis.call('HSET', state, 'r:' .. ARGV[2], reading)
  if redis.call('PTTL', state) < 0 then
    -- It was lost, and is new.
    redis.call('PEXPIRE', state, math.max(redis.call('PTTL', items), math.ceil(ARGV[3] / 1000)))
  end
end
return { removed, redis.call('XLEN', items), taken }
