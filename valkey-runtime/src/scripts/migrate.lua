-- KEYS: the key. ARGV: the stamp and the version of the value that was read, and the entry of a later version that it has become.
local bytes = redis.pcall('GETRANGE', KEYS[1], 0, 58)
if type(bytes) ~= 'string' then return 0 end
local is, b, timed = head(bytes)
local entry = ARGV[3]
local becomes, c, is_timed = head(entry)
if is ~= 'known' or b[3] ~= 0 or becomes ~= 'known' or c[3] ~= 0 then return 0 end
if string.sub(bytes, 13, 20) ~= ARGV[1] or b[5] * 256 + b[6] ~= tonumber(ARGV[2]) then return 0 end
if string.sub(bytes, 21, 25) ~= string.sub(entry, 21, 25) or timed ~= is_timed then return 0 end
local rest = 21
local kept = ''
if timed then
  -- Somebody loads the next value, under the stamp of this one.
  if b[47] + b[48] + b[49] > 0 and is_claimed(b) then return 0 end
  kept = string.sub(entry, 21, 31) .. string.sub(bytes, 32, 49)
  rest = 50
end
redis.call('SET', KEYS[1], string.sub(entry, 1, 12) .. string.sub(bytes, 13, 18) .. next_low(b) .. kept .. string.sub(entry, rest), 'KEEPTTL')
return 1
