-- Part: `now`, the server's clock in microseconds since 1970.
--
-- It is read once, so that everything in one call happens at one instant. No client's clock takes
-- part in any decision. Today's value has 51 bits; Lua's numbers are exact to 53.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
