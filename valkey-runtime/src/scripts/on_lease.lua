-- KEYS: the key. ARGV: the lease to the byte, or of a claim the stamp of its entry and its token; then 'fill', bytes and TTL in
-- milliseconds or ''; 'confirm', header and TTL; 'renew' and life; 'discard'; or 'release' and a pause in milliseconds.
local b
if #ARGV[1] == 11 then
  local bytes
  b, bytes = timed_value(KEYS[1])
  if not b or string.sub(bytes, 13, 20) .. string.sub(bytes, 47, 49) ~= ARGV[1] or not is_claimed(b) then return 0 end
elseif redis.pcall('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == 'fill' then
  put(KEYS[1], ARGV[3], ARGV[4])
elseif ARGV[2] == 'discard' or (ARGV[2] == 'release' and not b) then
  redis.call('DEL', KEYS[1])
elseif ARGV[2] == 'renew' and b then
  claim(KEYS[1], string.sub(ARGV[1], 9, 11), tonumber(ARGV[3]))
  redis.call('PEXPIRE', KEYS[1], ARGV[3], 'GT')
elseif ARGV[2] == 'renew' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
elseif ARGV[2] == 'confirm' and b then
  redis.call('SETRANGE', KEYS[1], 0, ARGV[3])
  live(KEYS[1], ARGV[4])
elseif ARGV[2] == 'release' then
  redis.call('SETRANGE', KEYS[1], 18, next_low(b))
  if ARGV[3] == '0' then
    redis.call('SETRANGE', KEYS[1], 41, string.rep('\0', 8))
  else
    claim(KEYS[1], '\0\0\0', tonumber(ARGV[3]))
  end
else
  return 0
end
return 1
