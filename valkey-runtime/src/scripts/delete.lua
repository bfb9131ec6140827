-- KEYS: the key. ARGV: the token and the life in milliseconds of the guard that is left, with a plus sign where another type of the
-- server's gives way to it; or '' and '0'; or 'mark_stale', and for how many milliseconds a value stays that says until when it is fresh.
local bytes = redis.pcall('GETRANGE', KEYS[1], 0, 58)
if type(bytes) ~= 'string' then
  if string.sub(ARGV[2], 1, 1) == '+' then place(KEYS[1], nil, ARGV[1], ARGV[2]) end
  return 0
end
local is, b, timed = head(bytes)
local was = is == 'known' and b[3] == 0 and is_fresh(b, timed) and 1 or 0
local guard = is == 'known' and b[3] == 3 and guard_in(entry_at(KEYS[1])) or nil
if ARGV[1] == 'mark_stale' and is == 'known' and timed then
  local nothing = '\207' .. string.rep('\0', 8)
  local between = string.sub(bytes, 21, 31)
  local written = redis.pcall('SETRANGE', KEYS[1], 18, next_low(b) .. between .. nothing .. nothing)
  if type(written) == 'table' then
    -- The server is at its memory limit. What can't be marked can be taken away.
    redis.call('DEL', KEYS[1])
  else
    redis.call('PEXPIRE', KEYS[1], ARGV[2], 'LT')
  end
elseif ARGV[1] ~= '' and ARGV[1] ~= 'mark_stale' then
  place(KEYS[1], guard, ARGV[1], ARGV[2])
elseif guard then
  guard.shared = true
  put_guard(KEYS[1], guard)
else
  redis.call('DEL', KEYS[1])
end
return was
