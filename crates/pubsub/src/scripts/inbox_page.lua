-- Reads a page of a user's inbox for a subscription, and how the inbox stands: at one moment, so that whatever was dropped
-- before the page's first item is known.
--
-- KEYS[1]  the items, KEYS[2] the state: see `inbox_push.lua`
-- ARGV[1]  the item behind which the page begins; '' for the first one
-- ARGV[2]  the epoch that the subscription knows, '' for none: in another one the page begins with the first item
-- ARGV[3]  how many items at most
-- Reply    {the items as XRANGE gives them, 1 when ARGV[1] is of an inbox that was lost, {the epoch or '', the last item that
--          was dropped or '', the last item that there ever was or ''}}
-- Example  EVALSHA … 2 ns:inbox:notes:{ann} ns:inbox:notes:{ann}:state 1764428400000-0 1764428399000000 100
--            → {{}, 0, {"1764428399000000", "", "1764428400000-0"}}
local items, after = KEYS[1], ARGV[1]
local epoch, dropped = unpack(redis.call('HMGET', KEYS[2], 'e', 'd'))
local last = ''
if redis.call('EXISTS', items) == 1 then
  -- Without the right to ask for it that the inbox lost its last items is not told.
  local info = redis.pcall('XINFO', 'STREAM', items)
  for i = 1, info.err and 0 or #info, 2 do
    if info[i] == 'last-generated-id' then
      last = info[i + 1]
    end
  end
end
local is_of_another
if ARGV[2] ~= '' then
  is_of_another = epoch and epoch ~= ARGV[2]
elseif after ~= '' then
  -- An id that is older than the inbox is of one that was lost, or ran out, before this subscription.
  is_of_another = epoch and tonumber(string.match(after, '^%d+')) < math.floor(epoch / 1000)
end
local from = (after == '' or is_of_another) and '-' or '(' .. after
local page = redis.call('XRANGE', items, from, '+', 'COUNT', ARGV[3])
return { page, is_of_another and 1 or 0, { epoch or '', dropped or '', last } }
