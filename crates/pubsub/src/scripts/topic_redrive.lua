-- Publishes dead letters again, for the group that could not handle them and no other.
--
-- Needs topic_entry.lua before it.
--
-- KEYS[1]  the stream    KEYS[2]  the group's dead letters
-- ARGV[1]  the group    ARGV[2]  how many at most    ARGV[3]  the only dead letter to publish, or '' for the oldest
-- Reply    how many were published
-- Example  EVALSHA … 2 ns:topic:mail:{mail.0} ns:topic:mail:{mail.0}:dead:senders senders 100 '' → 3
local from, to = '-', '+'
if ARGV[3] ~= '' then
  from, to = ARGV[3], ARGV[3]
end
local redriven = 0
local letters = redis.call('XRANGE', KEYS[2], from, to, 'COUNT', ARGV[2])
if #letters > 0 then
  -- This changes nothing, as no entry has this id, and needs no memory: after it a server that is full lets the script go on,
  -- which frees as much as it takes.
  redis.call('XDEL', KEYS[2], '0-0')
end
for _, letter in ipairs(letters) do
  local fields = fields_of(letter[2])
  add_entry(KEYS[1], fields['i'], fields['k'], fields['h'], fields['m'], ARGV[1], '0')
  redis.call('XDEL', KEYS[2], letter[1])
  redriven = redriven + 1
end
return redriven
