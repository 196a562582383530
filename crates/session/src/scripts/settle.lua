-- Ends a rotation whose last step was not answered, within a bucket: the old session is left to its grace, or, if
-- it had ended before that step came to it, its successor ends too.
--
-- KEYS  1 to 5: see `bucket.lua`, of the old session   6 the successor
-- ARGV  1 hash of the old id   2 hash of the successor's id   3 grace (µs)   4 channel of announcements
--       5, 6 the revision and the generation that were copied, or both empty for any: see `retire.lua`
-- Reply {1} the successor stands; {0} it has ended; {4} it has ended since the old session has another
--       {5, now, expires, {name, value, …}}: the old session was changed since it was copied, and nothing was done;
--       see `shown`
--
-- Example: EVALSHA … 6 session:web:{907}:s:pZ… … session:web:{907}:s:kW… pZ… kW… 10000000 session:web:ended 3 ""  →  {1}
local found = redis.call('HMGET', KEYS[6], 'c', 'u', 'g', 'l')
local created, user = found[1], found[2]
if not created then
  return { 0 }
end

local session, over = open(ARGV[1])
local has_ended = false
if over == 3 then
  -- Its user's sessions were revoked: all, or those that are not the successor's.
  has_ended = redis.call('HGET', KEYS[2], user) ~= found[3]
elseif not session then
  -- After its grace it is absent though everything went well. A sign-out that ended it has ended its successor.
  has_ended = over ~= 0 or now < created + ARGV[3]
elseif session.x then
  has_ended = session.x ~= ARGV[2]
elseif ARGV[5] ~= '' and (ARGV[5] ~= session.r or ARGV[6] ~= (session.g or '')) then
  return shown(5, (expires_of(session)))
else
  leave(session, ARGV[1], ARGV[3], ARGV[2], ARGV[4])
end
if not has_ended then
  return { 1 }
end
redis.call('DEL', KEYS[6])
if user ~= '' then
  unindex(user, ARGV[2])
end
remember(user, ARGV[2], found[4], 0, '')
announce(ARGV[4], user, ARGV[2])
return { session and 4 or 0 }
