-- Adds to an integer unless that would take it over (or under) a bound. Whether it would is decided by
-- comparing decimal texts: Lua's numbers are exact to 2^53 only.
--
-- KEYS[1] the key
-- ARGV[1] what to add
-- ARGV[2] 'up': refused when what is there is greater than ARGV[3]; 'down': when it is less
-- ARGV[3] the bound less what is added, so that nothing has to be calculated here
-- ARGV[4] the key's time to live in milliseconds, or ''
-- ARGV[5] 'create': only if the key has no time to live yet; 'write': anew
--
-- Reply: 1 and the sum as text; or 0 and what is there as text, and nothing was changed.
-- Example, up to 10: EVALSHA … 1 seats 3 up 7 '' '' → {1, "3"}

local function greater(a, b)
  local below_a, below_b = a:sub(1, 1) == '-', b:sub(1, 1) == '-'
  if below_a ~= below_b then
    return below_b
  end
  if below_a then
    a, b = b:sub(2), a:sub(2)
  end
  if #a ~= #b then
    return #a > #b
  end
  return a > b
end

local current = redis.call('GET', KEYS[1]) or '0'
if current ~= '0' and not current:match('^-?[1-9]%d*$') then
  return redis.error_reply('ERR value is not an integer or out of range')
end
local refused
if ARGV[2] == 'up' then
  refused = greater(current, ARGV[3])
else
  refused = greater(ARGV[3], current)
end
if refused then
  return {0, current}
end
redis.call('INCRBY', KEYS[1], ARGV[1])
if ARGV[5] == 'create' then
  redis.call('PEXPIRE', KEYS[1], ARGV[4], 'NX')
elseif ARGV[5] == 'write' then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return {1, redis.call('GET', KEYS[1])}
