-- Ends the script of one algorithm: `look` and `take` are that algorithm's.
--
-- KEYS[1]  the limit's key
-- ARGV[1]  1: take when allowed; 0: look only
-- ARGV[2]  cost, in units
-- ARGV[3…] the algorithm's parameters
-- Reply    {allowed (1, 0), units left, µs until all are back, µs until it would be allowed or may
--          go, mark, part, given}; without the last three when nothing was taken
-- Example  EVALSHA … 1 shop:ratelimit:api:{alice}:fixed 1 1 100 60000000
--          → {1, 99, 60000000, 0, 1795504826286845, 0, 0}
local key, cost = KEYS[1], tonumber(ARGV[2])
local allowed, left, reset, wait, a, b, c = look(key, cost, 3)
if ARGV[1] == '0' then
  local _, left_now, reset_now = look(key, 0, 3)
  return { allowed and 1 or 0, left_now, reset_now, wait }
elseif not allowed then
  return { 0, left, reset, wait }
end
local mark, part, given = take(key, cost, 3, a, b, c)
return { 1, left, reset, wait, mark, part or 0, given or 0 }
