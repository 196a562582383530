-- Ends `release.lua`: several locks, and one that is waited for, that rests, or that the caller has not.
local released = 0
for i = 1, #KEYS, 2 do
  local held = redis.call('GET', KEYS[i])
  local flag = flag_of(held, ARGV[1])
  if flag then
    released = released + 1
    local rest = 0
    if ARGV[3] ~= '0' then
      local _, since = fence_of(held)
      -- No longer than from now on: the server's clock may have gone back.
      rest = math.ceil(math.min(since + ARGV[3] - now, tonumber(ARGV[3])) / 1000)
    end
    if rest > 0 then
      -- The first needs no memory: after it Redis lets the script go on though there is none.
      redis.call('PEXPIRE', KEYS[i], rest)
      redis.call('SETRANGE', KEYS[i], 0, 'r')
    else
      redis.call('DEL', KEYS[i])
    end
    -- A waiter also has to know that a lock rests for less time than it seemed to be held.
    if flag == 'w' then
      wake_up(ARGV[2], KEYS[i])
      queue_wake(KEYS[i + 1], ARGV[2])
    end
  end
end
return released
