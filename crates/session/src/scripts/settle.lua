-- Ends a rotation whose last step was not answered, within a bucket: the old session is left to its grace, or, if
-- it was signed out or revoked before that step came to it, its successor ends too.
--
-- KEYS  1 to 5: see `bucket.lua`, of the old session   6 the successor
-- ARGV  1 hash of the old id   2 hash of the successor's id   3 grace (µs)   4 channel of announcements
--       5, 6 the revision and the generation that were copied: see `retire.lua`; or both empty for any, where the client
--         has the new id
-- Reply {1} the successor stands; {0} it has ended; {4} it has ended since the old session has another
--       {5, now, expires, {name, value, …}}: the old session was changed since it was copied, and nothing was done;
--       see `shown`
--
-- Example: EVALSHA … 6 session:web:{907}:s:pZ… … session:web:{907}:s:kW… pZ… kW… 10000000 session:web:ended 3 ""  →  {1}
local successor = {}
local fields = { 'c', 'u', 'g', 'l', 'a', 'd', 'x' }
for at, value in ipairs(redis.call('HMGET', KEYS[6], unpack(fields))) do
  successor[fields[at]] = value
end
local is_given_out = ARGV[5] == ''
if not successor.c then
  -- A client that has the new id has no use for the old one any more; one that has not keeps it.
  local session = is_given_out and open(ARGV[1])
  if session and not session.x then
    leave(session, ARGV[1], ARGV[3], ARGV[2], ARGV[4])
  end
  return { 0 }
end

local session, over = open(ARGV[1])
local has_ended = false
if over == 3 then
  -- Its user's sessions were revoked: all, or those that are not the successor's.
  has_ended = redis.call('HGET', KEYS[2], successor.u) ~= successor.g
elseif not session then
  -- Its grace and its own timeouts end it though everything went well. A sign-out leaves a note: see `remember`.
  has_ended = over == 0 and string.find(redis.call('HGET', KEYS[4], ARGV[1]) or '', '^0:0:') ~= nil
elseif session.x then
  has_ended = session.x ~= ARGV[2]
elseif not is_given_out and (ARGV[5] ~= session.r or ARGV[6] ~= (session.g or '')) then
  return shown(5, (expires_of(session)))
else
  leave(session, ARGV[1], ARGV[3], ARGV[2], ARGV[4])
  if session.g ~= successor.g then
    -- A revocation of the others has spared the old one: the session goes on as its successor.
    redis.call('HSET', KEYS[6], 'g', session.g)
    successor.g = session.g
    local at = redis.call('PEXPIRETIME', KEYS[6]) * 1000
    index(successor, ARGV[2], at > 0 and at or whole(tonumber(successor.a)), true)
  end
end
if not has_ended then
  return { 1 }
end
redis.call('DEL', KEYS[6])
if successor.u ~= '' then
  unindex(successor.u, ARGV[2])
end
remember(successor.u, ARGV[2], successor.l, 0, '')
announce(ARGV[4], successor.u, ARGV[2])
return { session and 4 or 0 }
