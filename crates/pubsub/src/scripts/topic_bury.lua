-- Moves an entry that cannot be handled to the group's dead letters: written and acknowledged in one step, and only by
-- the entry's owner.
--
-- Needs clock.lua, topic_entry.lua and topic_finish.lua before it.
--
-- KEYS[1]  the stream
-- KEYS[2]  the group's dead letters (stream: `o` the entry, `a` attempts, `r` the reason, and `i`, `k`, `h`, `m` as in
--          the topic's stream)
-- KEYS[3]  the deduplication record of its id
-- ARGV[1]  the group    ARGV[2]  the consumer    ARGV[3]  the entry    ARGV[4]  its field `d`    ARGV[5]  retention
-- ARGV[6]  attempts    ARGV[7]  the reason    ARGV[8]  how many dead letters are kept    ARGV[9]  for how long (ms)
-- Reply    1, or 0 when the consumer does not own it, or it was delivered again
-- Example  EVALSHA … 3 ns:topic:mail:{mail.0} ns:topic:mail:{mail.0}:dead:senders ns:topic:mail:{mail.0}:id:order-7 senders 0198…
--            1764428400000-0 0 log 5 "no such address" 10000 2592000000 → 1
local stream, dead, id = KEYS[1], KEYS[2], ARGV[3]
local row = redis.call('XPENDING', stream, ARGV[1], id, id, 1)[1]
if not row or row[2] ~= ARGV[2] or row[4] ~= tonumber(ARGV[6]) then
  return 0
end
local entry = redis.call('XRANGE', stream, id, id)[1]
if entry then
  local fields = fields_of(entry[2])
  -- This needs no memory: after it a server that is full lets the script go on, which frees as much as it takes in a queue.
  redis.call('PEXPIRE', dead, ARGV[9])
  redis.call('XADD', dead, 'MAXLEN', '=', ARGV[8], '*', 'o', id, 'a', ARGV[6], 'r', ARGV[7], 'i', fields['i'] or '',
    'k', fields['k'] or '', 'h', fields['h'] or '{}', 'm', fields['m'] or '')
  redis.call('XTRIM', dead, 'MINID', '=', string.format('%.0f', math.max(0, math.floor(now / 1000) - ARGV[9])))
  redis.call('PEXPIRE', dead, ARGV[9])
end
finish(stream, ARGV[1], id, KEYS[3], ARGV[4], ARGV[5])
return 1
