-- Ends the script that gives an owner all its units back and wakes the first waiter.
--
-- KEYS     the keys of the owner's units and refunds; then the queue in which callers wait for units
-- ARGV[1]  the channel of wake-ups
-- Reply    how many keys were there
-- Example  EVALSHA … 3 shop:ratelimit:api:{alice}:fixed shop:ratelimit:api:{alice}:refunds
--            shop:ratelimit:api:{alice}:queue shop:ratelimit:api:wake → 1
local there = redis.call('UNLINK', unpack(KEYS, 1, #KEYS - 1))
queue_wake(KEYS[#KEYS], ARGV[1], '')
return there
