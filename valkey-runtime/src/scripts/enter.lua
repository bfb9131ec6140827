-- KEYS: the key. ARGV: token, life in milliseconds. The guard as it then is; nil where another type of the server's is.
local entry, foreign = entry_at(KEYS[1])
if foreign then return false end
place(KEYS[1], guard_in(entry), ARGV[1], ARGV[2])
return redis.call('GET', KEYS[1])
