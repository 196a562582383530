-- Reads a session, if it is not over, and notes that it is used.
--
-- KEYS  1 to 5: see `bucket.lua`
-- ARGV  1 hash of the id   2 granularity (µs): the expiry is moved only when it gains more than that
-- Reply {0} absent, {2} past its absolute timeout, {3} revoked; or
--       {1, now, expires, c, a, i, m, r, u, n, d, l, x, k, g, name, value, …}: see `shown`
--
-- Example: EVALSHA … 5 session:web:{907}:s:pZ… session:web:{907}:g … pZ… 60000000  →  {1, "1700000000000000", …}
local hash, granularity = ARGV[1], tonumber(ARGV[2])
local session, over = open(hash)
if not session then
  return { over }
end
local expires, is_kept = expires_of(session)
-- A session that was rotated runs out after its grace.
if not session.x then
  local wanted = expiry(tonumber(session.i), tonumber(session.a))
  if wanted - expires > granularity or not is_kept then
    redis.call('HSET', KEYS[1], 't', text(now), 'z', text(expire_entries(session)))
    redis.call('PEXPIREAT', KEYS[1], text(wanted / 1000))
    expires = wanted
    if session.u ~= '' then
      index(session, hash, expires)
    end
  end
end
return shown(session, 1, expires)
