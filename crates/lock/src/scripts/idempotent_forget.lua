-- Forgets an execution that failed, so that the next call runs anew.
--
-- KEYS[1]  see `idempotent_begin.lua`
-- ARGV[1]  the runner's token; empty to forget whatever is there
-- Reply    1 forgotten, 0 there is none, or another's, or it has ended
-- Example  EVALSHA … 1 shop:idempotent:payments:{7:alice:k-1} 9f3a… → 1
if ARGV[1] ~= '' then
  local owner, result, is_not_kept = unpack(redis.call('HMGET', KEYS[1], 'o', 'v', 'x'))
  if owner ~= ARGV[1] or result or is_not_kept then
    return 0
  end
end
return redis.call('DEL', KEYS[1])
