-- Part: ends the script with -1 unless the caller owns the partition. The last of KEYS is the owner's token as the
-- server has it, the last of ARGV the caller's.
if redis.call('GET', KEYS[#KEYS]) ~= ARGV[#ARGV] then
  return -1
end
