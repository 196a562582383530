-- Part: what stands at a lock's key, in one text:
--   <flag><token> <fence> <since> <process> <host> <label>
-- `flag`   h held; w held, and somebody waits for it; r released, and resting until its time is up
-- `token`  32 hexadecimal digits of the owner
-- `since`  the server's time (µs) at which it was taken

-- The flag of a lock if it belongs to the owner of `token` and is not released, otherwise nothing.
local function flag_of(held, token)
  local flag = held and string.sub(held, 1, 1)
  if flag and flag ~= 'r' and string.sub(held, 2, 33) == token then
    return flag
  end
end

-- The fence and the time since when a lock is held.
local function fence_of(held)
  return string.match(held, '^.' .. string.rep('%x', 32) .. ' (%d+) (%d+)')
end

-- Whether it is a lock that nobody is known to wait for, and not what somebody else put there.
local function is_unwaited(held)
  return string.sub(held, 1, 1) == 'h' and fence_of(held) ~= nil
end
