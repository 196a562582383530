-- Part: what every script begins with, after `wake_up`. The keys of a bucket, which share the slot of its tag:
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
--         of an id that has ended before others of its lineage
--       5 deadlines: sorted set of `s<hash of the user><hash of the id>` by when the session expires and
--         `g<hash of the user>` by when a generation can be forgotten (µs)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local USER = 22 -- characters of the hash of a user

local function text(number)
  return string.format('%.0f', number)
end

-- A bucket's key lives as long as the last that it speaks of.
local function keep(key, at)
  local millis = text(math.ceil(at / 1000))
  if redis.call('PTTL', key) == -1 then
    redis.call('PEXPIREAT', key, millis)
  else
    redis.call('PEXPIREAT', key, millis, 'GT')
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
-- found by its lineage.
local function index(session, hash, expires)
  local user, member = session.u, session.u .. hash
  local row = text(tonumber(session.c)) .. ':' .. text(now) .. ':' .. text(tonumber(session.a)) .. ':' .. session.g
    .. ':' .. session.l .. ':' .. session.d
  if session.x then
    redis.call('ZREM', KEYS[3], member)
    member = '~' .. member
  end
  redis.call('ZADD', KEYS[3], 0, member)
  redis.call('HSET', KEYS[4], hash, row)
  redis.call('ZADD', KEYS[5], text(expires), 's' .. user .. hash)
  keep(KEYS[3], expires)
  keep(KEYS[4], expires)
  keep(KEYS[5], expires)
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
  redis.call('HSET', KEYS[1], 'x', successor)
  redis.call('PEXPIREAT', KEYS[1], text(math.ceil((now + grace) / 1000)), 'LT')
  if session.u ~= '' then
    index(session, hash, whole(now + grace))
  end
  announce(channel, session.u, hash)
end

local FIELDS = { 'c', 'a', 'i', 'm', 'r', 'z', 'u', 'n', 'g', 'd', 'l', 'x', 'k' }

-- Reads a session without its entries and ends it when it is over. Gives nil and why (0 absent, 2 past its
-- absolute timeout, 3 revoked), or a table of its fields.
local function open(hash)
  local session = {}
  for at, value in ipairs(redis.call('HMGET', KEYS[1], unpack(FIELDS))) do
    session[FIELDS[at]] = value
  end
  if not session.c then
    return nil, 0
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
    redis.call('DEL', KEYS[1])
    if session.u ~= '' then
      unindex(session.u, hash)
    end
    return nil, over
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

-- What a caller is told of a session: fixed fields, then names and values of the entries.
local function shown(session, status, expires)
  local reply = {
    status, text(now), text(math.min(expires, tonumber(session.a))), session.c, session.a, session.i, session.m, session.r,
    session.u, session.n, session.d, session.l, session.x or '', session.k or '', session.g,
  }
  local flat = redis.call('HGETALL', KEYS[1])
  for at = 1, #flat, 2 do
    local name, stored = flat[at], flat[at + 1]
    if string.sub(name, 1, 1) == '.' then
      local ends = string.match(stored, '^E(%d+):')
      if not ends or tonumber(ends) > now then
        reply[#reply + 1] = string.sub(name, 2)
        reply[#reply + 1] = stored
      end
    end
  end
  return reply
end

-- Removes the entries whose own time has passed.
local function expire_entries(session)
  local flat = redis.call('HGETALL', KEYS[1])
  local bytes = tonumber(session.z)
  for at = 1, #flat, 2 do
    local name, stored = flat[at], flat[at + 1]
    local ends = string.sub(name, 1, 1) == '.' and string.match(stored, '^E(%d+):')
    if ends and tonumber(ends) <= now then
      redis.call('HDEL', KEYS[1], name)
      bytes = bytes - size(string.sub(name, 2), stored)
    end
  end
  return bytes
end
