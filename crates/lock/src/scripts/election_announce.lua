-- Ends the script that tells observers of an election that its leader may have changed.
--
-- KEYS[1]  the lock of the election, which decides where this runs
-- ARGV[1]  the channel of wake-ups
-- ARGV[2]  the name of the observers
-- Reply    1
-- Example  EVALSHA … 1 shop:lock:schedulers:{nightly} shop:election:schedulers:wake nightly → 1
wake_up(ARGV[1], ARGV[2])
return 1
