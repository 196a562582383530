-- A page of dead letters, in the order of their keys' bytes.
--
-- KEYS  1 dead   2 letters
-- ARGV  1 after   `-` for the first page, or `(` and the last key of the page before
--       2 count
-- Reply {key, letter, …}; a letter is `<d or s> <version> <time> <attempts> <length> <error><change>`,
--       `s` when the key was written since
--
-- Example: EVALSHA … 2 write-behind:orders:{orders.0}:dead write-behind:orders:{orders.0}:letters - 10
--          →  {"42", "d 1760000000000000 1760000000500000 10 4 oops" .. "v{}"}
local reply = {}
local keys = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], '+', 'LIMIT', 0, ARGV[2])
for _, key in ipairs(keys) do
    reply[#reply + 1] = key
    reply[#reply + 1] = redis.call('HGET', KEYS[1], key) or ''
end
return reply
