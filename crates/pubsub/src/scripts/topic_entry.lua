-- Part: an entry of a topic's stream, and the form in which it waits elsewhere.
--
-- An entry has these fields in this order, or `i` and `m` alone where the others have nothing to say (`k` and `g` empty, no
-- headers, `d` 0): entries with the same ones share their names in the stream's memory.
-- `i` the message's id, `k` its key, `h` its headers (JSON), `m` the message, `g` the only group that it is for
-- ('' for all), `d` not 0 when a deduplication record is to be looked at once every group has acknowledged it: 1, or
-- when the message was published to wait for its time, by which the record knows it.

-- Gives the id of the new entry.
local function add_entry(stream, id, key, headers, message, group, recorded)
  return redis.call('XADD', stream, '*', 'i', id, 'k', key, 'h', headers, 'm', message, 'g', group, 'd', recorded)
end

local function fields_of(flat)
  local fields = {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end

-- A message that waits for its time: three lengths, and what they are the lengths of.
local function pack_body(key, headers, message, recorded)
  return #key .. ' ' .. #headers .. ' ' .. recorded .. '\n' .. key .. headers .. message
end

-- Gives key, headers, message, recorded.
local function unpack_body(body)
  local line = string.find(body, '\n', 1, true)
  local key, headers, recorded = string.match(string.sub(body, 1, line - 1), '^(%d+) (%d+) (%d+)$')
  local first, second = line + 1 + key, line + 1 + key + headers
  return string.sub(body, line + 1, first - 1), string.sub(body, first, second - 1), string.sub(body, second), recorded
end
