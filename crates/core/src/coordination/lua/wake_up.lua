-- Part: `wake_up(channel, name, payload)`, which tells the processes that wait for `name`.
--
-- The message is the length of the name in 8 hexadecimal digits, the name, and the payload. A user who may not
-- publish wakes nobody, and what the script has done stays done: waiters look by themselves in time.
local function wake_up(channel, name, payload)
  redis.pcall('PUBLISH', channel, string.format('%08x', #name) .. name .. (payload or ''))
end
