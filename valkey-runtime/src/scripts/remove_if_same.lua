-- KEYS: the key. ARGV: length, SHA-1 in hexadecimal.
local length = redis.pcall('STRLEN', KEYS[1])
if length ~= tonumber(ARGV[1]) then return 0 end
if redis.sha1hex(redis.call('GET', KEYS[1]) or '') ~= ARGV[2] then return 0 end
return redis.call('DEL', KEYS[1])
