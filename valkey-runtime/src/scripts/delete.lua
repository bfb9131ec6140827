-- KEYS: the key. ARGV: the token and the life in milliseconds of the guard that is left, or '' and '0'.
local bytes = redis.pcall('GETRANGE', KEYS[1], 0, 24)
if type(bytes) ~= 'string' then return 0 end
local is, b = head(bytes)
local was = is == 'known' and b[3] == 0 and 1 or 0
local guard = is == 'known' and b[3] == 3 and guard_in(entry_at(KEYS[1])) or nil
if ARGV[1] ~= '' then
  place(KEYS[1], guard, ARGV[1], ARGV[2])
elseif guard then
  guard.shared = true
  put_guard(KEYS[1], guard)
else
  redis.call('DEL', KEYS[1])
end
return was
