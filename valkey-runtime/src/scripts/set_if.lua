-- KEYS: the key. ARGV: 'absent' or 'present', version, bytes, TTL in milliseconds or ''.
local s = standing(KEYS[1], tonumber(ARGV[2]))
local store
if ARGV[1] == 'absent' then
  store = s ~= 'own' and s ~= 'protected'
else
  store = s == 'own'
end
if not store then return 0 end
if ARGV[4] == '' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
return 1
