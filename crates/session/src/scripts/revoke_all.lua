-- Gives the sessions of a user a new generation: all that have another are over.
--
-- KEYS  1 to 5: see `bucket.lua`; the first is a session that is spared, or not used
-- ARGV  1 hash of the user   2 a random name, of which and the time the new generation is made
--       3 for how long it is kept (µs)
--       4 hash of the id of the session that is spared, or empty   5 channel of announcements
-- Reply {1} done; {0}, {2}, {3}, {4} as `commit.lua`, when the spared session is over: nothing is done
--
-- Example: EVALSHA … 5 session:web:{907}:s session:web:{907}:g … Vw… x9… 34560000000000 "" session:web:ended  →  {1}
local user, spared = ARGV[1], ARGV[4]
-- One that is repeated does nothing; one that arrives after another revocation revokes once more, and gives no
-- generation back.
local standing = redis.call('HGET', KEYS[2], user)
if standing and string.match(standing, '^%d+%.(.*)$') == ARGV[2] then
  return { 1 }
end
local generation = text(now) .. '.' .. ARGV[2]
local session, over
if spared ~= '' then
  session, over = open(spared)
  if not session then
    return { over }
  elseif session.x or session.u ~= user then
    return { 4 }
  end
end
-- Out of memory, the server refuses a script whose first write may grow. No user has this name; the generation that
-- stands is not to be missing should the script end after this.
redis.call('HDEL', KEYS[2], '')
prune()
redis.call('HSET', KEYS[2], user, generation)
redis.call('ZADD', KEYS[5], text(now + ARGV[3]), 'g' .. user)
keep(now + ARGV[3], KEYS[2], KEYS[5])
if session then
  redis.call('HSET', KEYS[1], 'g', generation)
  session.g = generation
  index(session, spared, (expires_of(session)))
end
announce(ARGV[5], user, '')
return { 1 }
