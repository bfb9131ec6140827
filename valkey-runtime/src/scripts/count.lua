-- KEYS: a counter. ARGV: 'count', or 'counted' for a look; 'add', 'look' or 'reset'; the amount; how long it lasts: 'forever', or 'first', 'last' or 'window'
-- and milliseconds. Answers '=' and the count, which is the one before a reset; '^' if the sum does not fit; '?' if the key holds
-- no counter. Lua's numbers are doubles, so the server adds, and counts stay text here.
local before = redis.pcall('GET', KEYS[1])
if type(before) == 'table' then
  if string.find(before['err'], 'WRONGTYPE', 1, true) then return '?' end
  return before
end
if before and before ~= '0' then
  local sign, digits = string.match(before, '^(%-?)([1-9]%d*)$')
  local most = sign == '-' and '9223372036854775808' or '9223372036854775807'
  if not digits or #digits > #most or (#digits == #most and digits > most) then return '?' end
end
if ARGV[2] == 'look' then return '=' .. (before or '0') end
if ARGV[2] == 'reset' then
  if before then redis.call('DEL', KEYS[1]) end
  return '=' .. (before or '0')
end
local lasts, life = ARGV[4], tonumber(ARGV[5])
if lasts == 'window' then
  local time = redis.call('TIME')
  life = life - (time[1] * 1000 + math.floor(time[2] / 1000)) % life
end
life = string.format('%.0f', life)
if not before then
  if lasts == 'forever' then redis.call('SET', KEYS[1], ARGV[3]) else redis.call('SET', KEYS[1], ARGV[3], 'PX', life) end
  return '=' .. ARGV[3]
end
local sum = redis.pcall('INCRBY', KEYS[1], ARGV[3])
if type(sum) == 'table' then
  if string.find(sum['err'], 'overflow', 1, true) then return '^' end
  return sum
end
if lasts == 'forever' then
  redis.call('PERSIST', KEYS[1])
elseif lasts == 'last' then
  redis.call('PEXPIRE', KEYS[1], life)
else
  redis.call('PEXPIRE', KEYS[1], life, 'LT')
end
return '=' .. redis.call('GET', KEYS[1])
