-- A fresh entry, or the right to load one.
--
-- KEYS  1 entry   2 lease
-- ARGV  1 token   a random number for the lease, in hexadecimal
--       2 ttl     of the lease, in milliseconds
--       3 id      of the entry that the caller will not take as fresh, or empty; `*` for
--                 whatever is there
--       4 need    `all`      the caller has nothing to serve
--                 `better`   it has a stale value, and a source that failed may rest
--                 `refresh`  it has a fresh value, and does not wait
--       5 awaited the token of the load that the caller has waited for, or empty
--       6 before  a token with which the caller has asked already, and not been answered, or empty
-- Reply {0, entry, pttl}   fresh: its bytes, and its time left with the grace period
--       {1}                the lease is the caller's: load
--       {2, pttl, token}   another's: wait for it, at most this many milliseconds
--       {3, pttl}          the last load failed, and the source rests this long
--       {4, error}         the load that was waited for failed, with this error
--
-- The lease's first letter says what it is: `l` a load, `w` a write, in capitals when somebody
-- waits to be woken; or what has become of a load: `c` a rest, `f` a failure. The token follows,
-- and behind a space the error of a load that somebody waited for: who was not reached by the
-- message finds it here.
--
-- Example: EVALSHA … 2 cache:p:{42} cache:p:{42}:lease 9f3c 3000 "" all "" ""  →  {1}
local head = redis.call('GETRANGE', KEYS[1], 0, 160)
local id, grace = string.match(head, '^rk1 (%x+) %d+ %d+ (%d+) %d+ %S+ [vn] ')
if id and ARGV[3] ~= '*' and id ~= ARGV[3] then
    local left = redis.call('PTTL', KEYS[1])
    if left == -1 or left > tonumber(grace) then
        return {0, redis.call('GET', KEYS[1]), left}
    end
end

local lease = redis.call('GET', KEYS[2])
local kind, token = string.match(lease or '', '^(%a)(%w+)')
if token and token ~= ARGV[1] and token ~= ARGV[6] then
    local left = redis.call('PTTL', KEYS[2])
    if kind ~= 'c' and kind ~= 'f' then
        if ARGV[4] ~= 'refresh' then
            redis.call('SETRANGE', KEYS[2], 0, string.upper(kind))
        end
        return {2, left, token}
    end
    -- Behind the letter, the token and the space.
    local said = string.sub(lease, #token + 3)
    if said ~= '' and token == ARGV[5] then
        return {4, said}
    end
    if kind == 'c' and ARGV[4] ~= 'all' then
        return {3, left}
    end
end
redis.call('SET', KEYS[2], (kind == 'L' and 'L' or 'l') .. ARGV[1], 'PX', ARGV[2])
return {1}
