-- Reads a session, if it is not over, and notes that it is used. A session that has to be touched, or is over, is the
-- part `touch.lua`'s: this one comes before all functions, and is what most requests are.
--
-- KEYS  1 to 5: see `bucket.lua`
-- ARGV  1 hash of the id   2 granularity (µs): the expiry is moved only when it gains more than that
-- Reply {0} absent, {2} past its absolute timeout, {3} revoked; or {1, now, expires, {name, value, …}}: see `shown`
--
-- Example: EVALSHA … 5 session:web:{907}:s:pZ… session:web:{907}:g … pZ… 60000000
--          →  {1, 1700000000000000, 1700001800000000, {"c", "1700000000000000", …}}
local flat = redis.call('HGETALL', KEYS[1])
local created, absolute, idle, user, own, successor
for at = 1, #flat, 2 do
  local name = flat[at]
  if name == 'c' then
    created = flat[at + 1]
  elseif name == 'a' then
    absolute = tonumber(flat[at + 1])
  elseif name == 'i' then
    idle = flat[at + 1]
  elseif name == 'u' then
    user = flat[at + 1]
  elseif name == 'g' then
    own = flat[at + 1]
  elseif name == 'x' then
    successor = flat[at + 1]
  end
end
if not (created and absolute and idle and user) then
  return { 0 }
end
local generation = user ~= '' and redis.call('HGET', KEYS[2], user)
local is_revoked = generation and generation ~= own
-- When a session expires that is used now, in whole milliseconds.
local wanted = math.min(now + idle, absolute)
wanted = wanted + -wanted % 1000
if now < absolute and not is_revoked then
  local at = redis.call('PEXPIRETIME', KEYS[1]) * 1000
  -- A session that was rotated runs out after its grace.
  if at > 0 and (successor or wanted - at <= tonumber(ARGV[2])) then
    return { 1, now, at, flat }
  end
end
