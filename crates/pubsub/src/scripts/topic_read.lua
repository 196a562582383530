-- Reads a log behind a position, and says whether the log still reaches back to it. Messages whose time has come are moved
-- into the log first: it may have no other readers.
--
-- Needs clock.lua, topic_entry.lua, topic_finish.lua and topic_delayed.lua before it.
--
-- A log loses its oldest entries only. So the entries behind a position are all there as long as no more entries are
-- gone than stood up to the position when it was taken. Two trims that leave the same first entry cannot be told apart
-- by ids.
--
-- A server that was restarted, or took over, may have lost the newest entries: then the log is another one, of which the
-- oldest entries are those that were read. It is read on behind the position, and not once more.
--
-- KEYS[1]  the stream    KEYS[2]  the delayed messages    KEYS[3]  their bodies
-- ARGV[1]  the last entry that was read, `$` for the last one that there is
-- ARGV[2]  how many entries had ever been added up to it
-- ARGV[3]  how many entries to read at most    ARGV[4]  how many bytes of entries, and one entry beyond that
-- Reply    {1 when entries behind the position are gone, {the entry behind which the others come, how many had ever been
--          added up to it}, entries as {id, fields, 0}}
-- Example  EVALSHA … 3 ns:topic:mail:{mail.0} … 1764428400000-0 12 100 262144 → {0, {"1764428400000-0", 12}, {}}
local stream, after, seen, most, budget = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if after ~= '$' then
  -- A reader without the right to do so, say, reads what is there.
  pcall(move_delayed, stream, KEYS[2], KEYS[3])
end
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
if not is_another and gone < seen and last ~= after then
  is_another = #redis.call('XRANGE', stream, after, after) == 0
end
if is_another then
  is_missing = 1
  local kept = redis.call('XREVRANGE', stream, after, '-', 'COUNT', 1)[1]
  if kept then
    -- Its newest entries were lost. How many stand behind the position is known where the reading reaches the end.
    after, seen = kept[1], math.max(gone, math.min(seen, added))
  else
    -- The stream was lost, and made anew.
    after, seen = '0-0', gone
  end
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
    -- The end: what stands before these entries is all the rest.
    seen = added - #entries
    break
  end
  from = some[#some][1]
  -- As many as there is room for, should they be as large as the largest of these.
  count = math.max(1, math.min(count * 4, math.floor(budget / size)))
end
-- Whatever stands behind a log that lost its newest entries, no more stands before these than all the rest.
return { is_missing, { after, math.min(seen, added - #entries) }, entries }
