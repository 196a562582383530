-- Reads a log behind a position, and says whether the log still reaches back to it.
--
-- Needs topic_entry.lua and topic_finish.lua before it.
--
-- A log loses its oldest entries only. So the entries behind a position are all there as long as no more entries are
-- gone than stood up to the position when it was taken. Two trims that leave the same first entry cannot be told apart
-- by ids.
--
-- KEYS[1]  the stream
-- ARGV[1]  the last entry that was read, `$` for the last one that there is
-- ARGV[2]  how many entries had ever been added up to it
-- ARGV[3]  how many entries to read at most    ARGV[4]  how many bytes of entries, and one entry beyond that
-- Reply    {1 when entries behind the position are gone, {the entry behind which the others come, how many had ever been
--          added up to it}, entries as {id, fields, 0}}
-- Example  EVALSHA … 1 ns:topic:mail:{mail.0} 1764428400000-0 12 100 262144 → {0, {"1764428400000-0", 12}, {}}
local stream, after, seen, most, budget = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('EXISTS', stream) == 0 then
  return { (after == '$' or after == '0-0') and 0 or 1, { '0-0', 0 }, {} }
end
local info = fields_of(redis.call('XINFO', 'STREAM', stream))
local last, added = info['last-generated-id'], info['entries-added']
if after == '$' then
  return { 0, { last, added }, {} }
end

local gone, is_missing = added - info['length'], 0
local is_another = is_before(last, after) or added < seen
if not is_another and gone < seen then
  is_another = #redis.call('XRANGE', stream, after, after) == 0
end
if is_another then
  -- The stream is not the one that was read: it was lost, and made anew.
  is_missing, after, seen = 1, '0-0', gone
elseif gone > seen then
  is_missing, seen = 1, gone
end

local entries, from, count = {}, after, 1
while #entries < most and budget > 0 do
  local asked = math.min(count, most - #entries)
  local some = redis.call('XRANGE', stream, '(' .. from, '+', 'COUNT', asked)
  local size = 64
  for _, entry in ipairs(some) do
    local bytes = 64
    for _, text in ipairs(entry[2]) do
      bytes = bytes + #text
    end
    size = math.max(size, bytes)
    budget = budget - bytes
    entries[#entries + 1] = { entry[1], entry[2], 0 }
  end
  if #some < asked then
    break
  end
  from = some[#some][1]
  -- As many as there is room for, should they be as large as the largest of these.
  count = math.max(1, math.min(count * 4, math.floor(budget / size)))
end
return { is_missing, { after, seen }, entries }
