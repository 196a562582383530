-- Ends the script that decides several limits at once, all or nothing.
--
-- KEYS     one for each limit, all in one slot, no two of them equal
-- ARGV[1]  1: take when all allow it; 0: look only
-- ARGV[2…] seven fields for each limit: see `several.lua`
-- Reply    {allowed (1, 0), then seven numbers for each limit: see `report`}
-- Example  EVALSHA … 2 r:user:{t}:gcra:alice r:address:{t}:fixed:10.0.0.1 1
--            gcra 1 20 600000 1 0 ''  fixed 1 1000 3600000000 '' '' ''
--          → {1, 1, 19, 600000, 0, 1795504826286845, 0, 0, 1, 999, 3600000000, 0, …}
local all, _, said = look_at(#KEYS, 2, 0)
if ARGV[1] == '0' then
  local _, _, as_it_is = look_at(#KEYS, 2, 0, 0)
  for n = 1, #KEYS do
    said[n][2], said[n][3] = as_it_is[n][2], as_it_is[n][3]
  end
elseif all then
  take_from(#KEYS, 2, said)
end
return report({ all and 1 or 0 }, #KEYS, said, all and ARGV[1] ~= '0')
