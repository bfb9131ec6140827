-- KEYS: the key. ARGV: token, life in milliseconds, with a plus sign where another type of the server's gives way. The guard as it
-- then is; nil where such another type is, and stays.
local entry, foreign = entry_at(KEYS[1])
if foreign and string.sub(ARGV[2], 1, 1) ~= '+' then return false end
place(KEYS[1], guard_in(entry), ARGV[1], ARGV[2])
return redis.call('GET', KEYS[1])
