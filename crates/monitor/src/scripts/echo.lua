-- Shows that the server runs scripts: gives its argument back and touches nothing.
--
-- KEYS: none
-- ARGV[1]: any text
-- Reply: the text
--
-- Example: EVAL <this> 0 hello -> "hello"
return ARGV[1]
