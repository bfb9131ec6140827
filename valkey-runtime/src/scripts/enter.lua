-- KEYS: the key. ARGV: token, life in milliseconds, and 'ours' where another type of the server's gives way. The guard as it then
-- is; nil where such another type is, and stays.
local entry, foreign = entry_at(KEYS[1])
if foreign and ARGV[3] ~= 'ours' then return false end
place(KEYS[1], guard_in(entry), ARGV[1], ARGV[2])
return redis.call('GET', KEYS[1])
