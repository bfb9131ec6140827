-- KEYS: the key. ARGV: 'absent' or 'present', version, bytes, TTL in milliseconds or ''.
local s = standing(KEYS[1], tonumber(ARGV[2]))
local store
if ARGV[1] == 'absent' then
  store = s ~= 'own' and s ~= 'protected' and s ~= 'foreign'
else
  store = s == 'own'
end
if not store then return 0 end
put(KEYS[1], ARGV[3], ARGV[4])
return 1
