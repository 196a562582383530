-- A fresh entry, or the right to load one.
--
-- KEYS  1 entry   2 lease
-- ARGV  1 token      of the lease that is asked for: a random number in hexadecimal, and behind a
--                    point the cache's generation, when it can be cleared
--       2 ttl        of the lease, in milliseconds
--       3 rejected   the id of the entry that the caller does not take as fresh, or empty; `*` for
--                    whatever is there
--       4 have       `nothing`  the caller has nothing to serve
--                    `stale`    it has a stale value, and a source that failed may rest
--                    `fresh`    it has a fresh value, and does not wait
--                    `unwanted` it has a fresh value that it does not take: a source that has failed before is
--                               asked again, and the failure of the load that it has waited for is its own
--       5 awaited    the token of the load that the caller has waited for, or empty
--       6 unanswered a token with which the caller has asked already, without an answer, or empty
-- Reply {0, entry, pttl}   fresh: its bytes, and its time left with the grace period
--       {1}                the lease is the caller's: load
--       {2, pttl, token}   another process's: wait for it, at most this many milliseconds
--       {3, pttl}          the last load failed, and the source rests this long
--       {4, error}         the load that was waited for failed, with this error
--
-- The lease's first letter says what it is: `l` a load, `w` a write, in capitals when a caller waits
-- to be woken; or what has become of a load: `c` a rest, `f` a failure. The token follows, and behind
-- a space the error of a load that a caller waited for: a caller that the message did not reach finds
-- it here. Of contested writes see writes_under_way.lua. The lease of a load from before the cache was cleared is free: its value will not be kept.
--
-- Example: EVALSHA … 2 cache:p:{42} cache:p:{42}:lease 9f3c.1b7d 3000 "" nothing "" ""  →  {1}

-- A key of another type holds no entry, and is written over.
local head = redis.pcall('GETRANGE', KEYS[1], 0, 160)
local id, grace
if type(head) == 'string' then
    id, grace = string.match(head, '^rk1 (%x+) %d+ %d+ (%d+) %d+ %S+ [vn] ')
end
if id and ARGV[3] ~= '*' and id ~= ARGV[3] then
    local left = redis.call('PTTL', KEYS[1])
    if left == -1 or left > tonumber(grace) then
        return {0, redis.call('GET', KEYS[1]), left}
    end
end

local lease = redis.call('GET', KEYS[2])
local kind, token = string.match(lease or '', '^(%a)(%S+)')
local function generation_of(token)
    return string.match(token, '%.(%x+)$')
end
local is_obsolete = false
if kind == 'l' or kind == 'L' then
    local its, now = generation_of(token), generation_of(ARGV[1])
    is_obsolete = its and now and its ~= now
end
if token and token ~= ARGV[1] and token ~= ARGV[6] and not is_obsolete then
    local left = redis.call('PTTL', KEYS[2])
    if kind ~= 'c' and kind ~= 'f' then
        if ARGV[4] ~= 'fresh' then
            redis.call('SETRANGE', KEYS[2], 0, string.upper(kind))
        end
        return {2, left, token}
    end
    -- Behind the letter, the token and the space.
    local shared = string.sub(lease, #token + 3)
    if shared ~= '' and token == ARGV[5] then
        return {4, shared}
    end
    local rests = ARGV[4] == 'stale' or ARGV[4] == 'fresh' or (ARGV[4] == 'unwanted' and token == ARGV[5])
    if kind == 'c' and rests then
        return {3, left}
    end
end
redis.call('SET', KEYS[2], (kind == 'L' and 'L' or 'l') .. ARGV[1], 'PX', ARGV[2])
return {1}
