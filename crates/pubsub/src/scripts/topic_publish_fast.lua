-- Part: the fast way of topic_publish.lua, for a message that is due at once and whose id, if it has one, is not known.
-- It stands before the functions that the others need, because a script makes its functions anew with each call.
if ARGV[3] == '' and (ARGV[1] == 'for' or ARGV[1] == 'none') then
  local is_named, record, id = ARGV[1] == 'for', KEYS[4], ARGV[4]
  if not is_named or (redis.call('EXISTS', record) == 0 and not redis.call('ZSCORE', KEYS[2], id)) then
    local entry
    if ARGV[5] == '' and ARGV[6] == '{}' then
      entry = redis.call('XADD', KEYS[1], '*', 'i', id, 'm', ARGV[7])
    else
      entry = redis.call('XADD', KEYS[1], '*', 'i', id, 'k', ARGV[5], 'h', ARGV[6], 'm', ARGV[7], 'g', '', 'd', '0')
    end
    if is_named then
      redis.call('HSET', record, 'e', entry, 'd', '0', 'i', id)
      redis.call('PEXPIRE', record, ARGV[2])
    end
    if ARGV[8] ~= '' then
      -- As wake_up.lua does.
      redis.pcall('PUBLISH', ARGV[8], string.format('%08x', #ARGV[9]) .. ARGV[9])
    end
    return { entry, 'new' }
  end
end
