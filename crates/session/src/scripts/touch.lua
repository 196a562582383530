-- Ends `load.lua`: touches the session that it has read, or ends one that is over.
if now >= absolute or is_revoked then
  local over = now >= absolute and 2 or 3
  finish(user, ARGV[1], over)
  return { over }
end
if not successor then
  local session = {}
  for at = 1, #flat, 2 do
    session[flat[at]] = flat[at + 1]
  end
  -- The first needs no memory: after it Redis lets the script go on though there is none.
  redis.call('PEXPIREAT', KEYS[1], wanted / 1000)
  redis.call('HSET', KEYS[1], 't', now, 'z', expire_entries(flat, tonumber(session.z)))
  if user ~= '' then
    index(session, ARGV[1], wanted)
  end
end
return { 1, now, wanted, flat }
