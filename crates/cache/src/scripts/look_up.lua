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
-- Reply {0, entry, pttl}   fresh: its bytes, and its time left with the grace period
--       {1}                the lease is the caller's: load
--       {2, pttl}          another's: wait for it, at most this many milliseconds
--       {3, pttl}          the last load failed, and the source rests this long
--
-- The lease's first letter says what it is: `l` a load, `w` a write, `c` a rest; in capitals when
-- somebody waits to be woken. The token follows.
--
-- Example: EVALSHA … 2 cache:p:{42} cache:p:{42}:lease 9f3c 3000 "" all  →  {1}
local head = redis.call('GETRANGE', KEYS[1], 0, 160)
local id, grace = string.match(head, '^rk1 (%x+) %d+ %d+ (%d+) %d+ %S+ [vn] ')
if id and ARGV[3] ~= '*' and id ~= ARGV[3] then
    local left = redis.call('PTTL', KEYS[1])
    if left == -1 or left > tonumber(grace) then
        return {0, redis.call('GET', KEYS[1]), left}
    end
end

local lease = redis.call('GET', KEYS[2])
local kind = lease and string.sub(lease, 1, 1)
if kind and string.sub(lease, 2) ~= ARGV[1] then
    local left = redis.call('PTTL', KEYS[2])
    if kind ~= 'c' then
        if ARGV[4] ~= 'refresh' then
            redis.call('SETRANGE', KEYS[2], 0, string.upper(kind))
        end
        return {2, left}
    elseif ARGV[4] ~= 'all' then
        return {3, left}
    end
end
redis.call('SET', KEYS[2], (kind == 'L' and 'L' or 'l') .. ARGV[1], 'PX', ARGV[2])
return {1}
