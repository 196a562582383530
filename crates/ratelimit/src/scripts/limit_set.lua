-- Ends the script that decides several limits at once, all or nothing.
--
-- KEYS     one for each limit, no two of them equal; then the queue and the heartbeats of each queue whose
--          waiters go before the caller; all in one slot
-- ARGV[1]  1: take when all allow it; 0: look only
-- ARGV[2]  how many limits there are
-- ARGV[3]  µs for which a waiter is believed to be alive
-- ARGV[4…] seven fields for each limit: see `several.lua`; then the channel of wake-ups of each queue
-- Reply    {allowed (1, 0), which queue has waiters (from 1; 0: none), then seven numbers for each limit: see
--          `report`}. A look does not look at queues.
-- Example  EVALSHA … 2 r:user:{t}:gcra:alice r:address:{t}:fixed:10.0.0.1 1 2 3000000
--            gcra 1 20 600000 1 0 ''  fixed 1 1000 3600000000 '' '' ''
--          → {1, 0, 1, 19, 600000, 0, 1795504826286845, 0, 0, 1, 999, 3600000000, 0, …}
local FIRST = 4
local takes, count, alive = ARGV[1] ~= '0', tonumber(ARGV[2]), tonumber(ARGV[3])
local waited_for = 0
if takes then
  for n = 1, (#KEYS - count) / 2 do
    local queue, heartbeats = KEYS[count + 2 * n - 1], KEYS[count + 2 * n]
    local channel = ARGV[FIRST + 7 * count + n - 1]
    if queue_look(queue, heartbeats, channel, '', alive) > 0 and waited_for == 0 then
      waited_for = n
    end
  end
end
local all, _, said = look_at(count, FIRST, 0)
if not takes then
  local _, _, as_it_is = look_at(count, FIRST, 0, 0)
  for n = 1, count do
    said[n][2], said[n][3] = as_it_is[n][2], as_it_is[n][3]
  end
elseif all and waited_for == 0 then
  take_from(count, FIRST, said)
else
  all = false
end
return report({ all and 1 or 0, waited_for }, count, said, all and takes)
