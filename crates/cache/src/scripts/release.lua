-- Gives a lease back after a load that gave nothing to keep.
--
-- KEYS  1 lease
-- ARGV  1 token
--       2 rest    how long callers that have a stale value leave the source alone, in
--                 milliseconds; 0 for not at all
--       3 channel on which waiting callers are woken
--       4 entry   the entry's key, for them
--       5 error   the loader's error for them, or empty
--       6 stays   how long the error stays for callers that the message does not reach, in
--                 milliseconds
-- Reply 1 given back, 0 the lease did not stand
--
-- Example: EVALSHA … 1 cache:p:{42}:lease 9f3c 0 cache:p:wake cache:p:{42} "" 6000  →  1
local lease = redis.call('GET', KEYS[1])
if not lease or string.sub(lease, 2) ~= ARGV[1] then
    return 0
end
-- A server without memory refuses a script whose first write may grow.
redis.call('DEL', KEYS[1])
local wake = string.sub(lease, 1, 1)
local is_awaited = wake == 'L' or wake == 'W'
local shared = ''
if is_awaited and ARGV[5] ~= '' then
    shared = ' ' .. ARGV[5]
end
if tonumber(ARGV[2]) > 0 then
    redis.call('SET', KEYS[1], 'c' .. ARGV[1] .. shared, 'PX', ARGV[2])
elseif shared ~= '' then
    redis.call('SET', KEYS[1], 'f' .. ARGV[1] .. shared, 'PX', ARGV[6])
end
if is_awaited then
    local kind = ARGV[5] == '' and 'r' or 'e'
    wake_up(ARGV[3], ARGV[4], kind .. ARGV[5])
end
return 1
