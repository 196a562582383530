-- Looks at a lock.
--
-- KEYS[1]  the lock
-- Reply    {PTTL, what stands at its key or nothing}
-- Example  EVALSHA … 1 shop:lock:orders:{7} → {9400, "h9f3a… 1764000000000000 1764000000000000 71 web-3 -"}
return { redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[1]) }
