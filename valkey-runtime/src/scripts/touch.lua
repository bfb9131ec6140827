-- KEYS: the key. ARGV: version, TTL in milliseconds or ''.
if standing(KEYS[1], tonumber(ARGV[1])) ~= 'own' then return 0 end
if ARGV[2] == '' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
