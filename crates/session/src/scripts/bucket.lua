-- Part: what the scripts share. Needs `now` (clock.lua) and `wake_up` before it. To make these functions takes the
-- server as long as several commands: what is called with every request does its common case before them. The keys of a bucket, which share the slot of its tag:
--
-- KEYS  1 the session: hash `c` created (µs), `a` absolute deadline (µs), `i` idle timeout (µs), `t` last
--         touched (µs), `m` last committed (µs), `r` revision, `z` bytes of all entries, `u` hash of the
--         user or empty, `n` the user (encoded) or empty, `g` generation of the user, `d` device, `l` a
--         random name of the data, `k` hashes of its named indexes with a space between them, `x` after a rotation the hash of its successor's id, after a `!` when the successor is not the same user's;
--         each entry as `.name`: `=value`, or `E<µs>:value` for an entry that expires
--       2 generations: hash, hash of a user → the generation of its sessions. A session of another is over
--       3 index: sorted set of `<hash of the user><hash of the id>`, all with score 0; behind a `~` for an id
--         that was rotated, in its grace, and is no session of its own any more
--       4 rows: hash, hash of the id → `<created>:<seen>:<absolute>:<generation>:<l>:<device>`; for a minute also
--         of an id that has ended: see `remember`
--       5 deadlines: sorted set of `s<hash of the user><hash of the id>` by when the session expires (or its row is
--         forgotten; `-` for each character of the user of a session without one) and
--         `g<hash of the user>` by when a generation can be forgotten (µs)
local USER = 22 -- characters of the hash of a user
local KNOWN = 60 * 1000000 -- for how long it is known of an id that it has ended (µs)

local function text(number)
  return string.format('%.0f', number)
end

-- Keys of a bucket live as long as the last that they speak of. `GT` does nothing to a key that has no expiry, as one
-- that was just made.
local function keep(at, ...)
  local millis = text(math.ceil(at / 1000))
  for _, key in ipairs({ ... }) do
    if redis.call('PEXPIREAT', key, millis, 'GT') == 0 and redis.call('PTTL', key) == -1 then
      redis.call('PEXPIREAT', key, millis)
    end
  end
end

-- Keys expire in whole milliseconds. `open` looks at the absolute deadline to the microsecond.
local function whole(at)
  return math.ceil(at / 1000) * 1000
end

-- When a session expires that is used now.
local function expiry(idle, absolute)
  return whole(math.min(now + idle, absolute))
end

-- Tells the processes that watch a session, or any session of its user.
local function announce(channel, user, hash)
  wake_up(channel, user ~= '' and user or hash)
end

local function unindex(user, hash)
  redis.call('ZREM', KEYS[3], user .. hash, '~' .. user .. hash)
  redis.call('HDEL', KEYS[4], hash)
  redis.call('ZREM', KEYS[5], 's' .. user .. hash)
end

-- Notes a session of a user, by its fields and when it expires. One that was rotated is not listed any more, and
-- found by its lineage. `is_made` with a session that is stored now: an id that ended just before may stand in the
-- deadlines alone.
local function index(session, hash, expires, is_made)
  local user, member = session.u, session.u .. hash
  local row = session.c .. ':' .. text(now) .. ':' .. session.a .. ':' .. session.g .. ':' .. session.l .. ':' .. session.d
  redis.call('HSET', KEYS[4], hash, row)
  local is_missing = redis.call('ZADD', KEYS[5], expires, 's' .. member) == 1
  if session.x then
    redis.call('ZREM', KEYS[3], member)
    redis.call('ZADD', KEYS[3], 0, '~' .. member)
  elseif is_missing or is_made then
    -- Any other that stands in the deadlines stands in the index, too: see `unindex`.
    redis.call('ZADD', KEYS[3], 0, member)
  end
  keep(expires, KEYS[3], KEYS[4], KEYS[5])
end

-- Forgets what has expired in the bucket, a little with every call.
local function prune()
  local over = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', text(now), 'LIMIT', 0, 32)
  for _, member in ipairs(over) do
    local user = string.sub(member, 2, 1 + USER)
    if string.sub(member, 1, 1) == 'g' then
      redis.call('HDEL', KEYS[2], user)
      redis.call('ZREM', KEYS[5], member)
    else
      unindex(user, string.sub(member, 2 + USER))
    end
  end
end

-- The sessions of a user that are not over, as lists of hash, created, seen, absolute, expires, device, lineage.
-- With `~` before the user, the rotated ones in their grace.
local function sessions_of(first)
  local user = string.sub(first, -USER)
  local generation = redis.call('HGET', KEYS[2], user)
  local found = {}
  for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[3], '[' .. first, '(' .. first .. '~')) do
    local hash = string.sub(member, 1 + #first)
    local row = redis.call('HGET', KEYS[4], hash)
    local expires = tonumber(redis.call('ZSCORE', KEYS[5], 's' .. user .. hash) or 0)
    local created, seen, absolute, own, lineage, device
    if row then
      created, seen, absolute, own, lineage, device = string.match(row, '^(%d+):(%d+):(%d+):([^:]*):([^:]*):(.*)$')
    end
    if created and expires > now and (not generation or own == generation) then
      found[#found + 1] = { hash, created, seen, absolute, text(expires), device, lineage }
    else
      unindex(user, hash)
    end
  end
  return found
end

-- All ids of a user's session that load, by its lineage: a rotation that was cut short may have left two. Those
-- that can be rotated come first.
local function kin_of(user, lineage)
  local kin = {}
  for _, first in ipairs({ user, '~' .. user }) do
    for _, other in ipairs(sessions_of(first)) do
      if other[7] == lineage then
        kin[#kin + 1] = other[1]
      end
    end
  end
  return kin
end

-- Leaves a session to its grace, in which it is what it was for requests under way, and takes no changes.
local function leave(session, hash, grace, successor, channel)
  session.x = successor
  -- Out of memory, the server refuses a script whose first write may grow; and a grace that is over removes the session.
  redis.call('HDEL', KEYS[1], '')
  redis.call('HSET', KEYS[1], 'x', successor)
  redis.call('PEXPIREAT', KEYS[1], text(math.ceil((now + grace) / 1000)), 'LT')
  if session.u ~= '' then
    index(session, hash, whole(now + grace))
  end
  announce(channel, session.u, hash)
end

-- Notes for a while that an id has ended, in a row that stands in no list: a call that arrives late does not store
-- it once more, and one that is repeated finds what it is to know. `over` as `open` gives it, 0 where it was ended.
local function remember(user, hash, lineage, over, successor)
  local row = '0:' .. over .. ':0::' .. lineage .. ':' .. successor
  -- Out of memory, the server refuses a script whose first write may grow.
  redis.call('HDEL', KEYS[4], hash)
  redis.call('HSET', KEYS[4], hash, row)
  redis.call('ZADD', KEYS[5], text(now + KNOWN), 's' .. (user ~= '' and user or string.rep('-', USER)) .. hash)
  keep(now + KNOWN, KEYS[4], KEYS[5])
end

-- Why an id is over that ended a while ago, and the successor that it had.
local function remembered(hash)
  local row = redis.call('HGET', KEYS[4], hash) or ''
  local over, successor = string.match(row, '^0:(%d+):0::[^:]*:(.*)$')
  return tonumber(over or 0), successor or ''
end

-- Ends a session that is over.
local function finish(user, hash, over)
  local found = redis.call('HMGET', KEYS[1], 'l', 'x')
  redis.call('DEL', KEYS[1])
  if user ~= '' then
    unindex(user, hash)
  end
  remember(user, hash, found[1] or '', over, found[2] or '')
end

-- Reads a session without its entries and ends it when it is over. Gives nil, why (0 absent, 2 past its
-- absolute timeout, 3 revoked) and its `x` or an empty text; or a table of its fields.
local function open(hash)
  local fields = { 'c', 'a', 'i', 'm', 'r', 'z', 'u', 'n', 'g', 'd', 'l', 'x', 'k' }
  local session = {}
  for at, value in ipairs(redis.call('HMGET', KEYS[1], unpack(fields))) do
    session[fields[at]] = value
  end
  if not session.c then
    return nil, remembered(hash)
  end
  local over
  if now >= tonumber(session.a) then
    over = 2
  elseif session.u ~= '' then
    local generation = redis.call('HGET', KEYS[2], session.u)
    if generation and generation ~= session.g then
      over = 3
    end
  end
  if over then
    finish(session.u, hash, over)
    return nil, over, session.x or ''
  end
  return session
end

-- When a session expires, and whether its key has an expiry. Where that was lost, the session has its idle
-- timeout once more.
local function expires_of(session)
  local at = redis.call('PEXPIRETIME', KEYS[1])
  if at < 0 then
    return expiry(tonumber(session.i), tonumber(session.a)), false
  end
  return at * 1000, true
end

-- The bytes of an entry, without what stands before its value.
local function size(name, stored)
  local head = stored and (string.match(stored, '^E%d+:') or '=')
  return stored and #name + #stored - #head or 0
end

-- What a caller is told of a session: the status, the server's time, when it expires (both µs; its absolute deadline
-- may come before), and all names and values of its hash. The caller tells entries from fields, and leaves out the
-- entries that have expired.
local function shown(status, expires)
  return { status, now, expires, redis.call('HGETALL', KEYS[1]) }
end

-- Removes the entries whose own time has passed, of all names and values of the hash. Gives the bytes that are left.
local function expire_entries(flat, bytes)
  local byte = string.byte
  for at = 1, #flat, 2 do
    local name, stored = flat[at], flat[at + 1]
    local ends = byte(name) == 46 and byte(stored) == 69 and string.match(stored, '^E(%d+):')
    if ends and tonumber(ends) <= now then
      redis.call('HDEL', KEYS[1], name)
      bytes = bytes - size(string.sub(name, 2), stored)
    end
  end
  return bytes
end
