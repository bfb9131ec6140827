-- KEYS: the key. ARGV: the lease; then 'fill', bytes, TTL in milliseconds or ''; or 'renew', life; or 'release'.
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == 'fill' then
  put(KEYS[1], ARGV[3], ARGV[4])
elseif ARGV[2] == 'renew' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('DEL', KEYS[1])
end
return 1
