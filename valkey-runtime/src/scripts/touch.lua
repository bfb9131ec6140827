-- KEYS: the key. ARGV: version; older ones that are read too; TTL in milliseconds or ''; how long the entry outlives its freshness;
-- how long it may live from its stamp on, or ''; the stamp that was read and the freshness, or '' twice; the hash of the key; the
-- shape.
local s, b, timed = standing(KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[8], ARGV[9])
if s ~= 'own' then return 0 end
local was_read = ARGV[6] ~= ''
if not timed then
  if was_read then return 0 end
  live(KEYS[1], ARGV[3])
  return 1
end
if was_read and (string.char(unpack(b, 13, 20)) ~= ARGV[6] or string.char(unpack(b, 33, 40)) ~= ARGV[7]) then return 0 end
local now = millis()
local last = ARGV[3] ~= '' and now + ARGV[3] or math.huge
if ARGV[5] ~= '' then
  local made = math.floor((number(b, 13, 18) * 16 + math.floor(b[19] / 16)) / 1000)
  last = math.min(last, made + ARGV[5])
end
-- For ever is more than any number, and no longer than for ever.
local for_ever = last == math.huge and string.char(unpack(b, 33, 40)) == string.rep('\255', 8)
if was_read and (for_ever or last <= number(b, 33, 40)) then return 0 end
if last == math.huge then
  redis.call('SETRANGE', KEYS[1], 32, string.rep('\255', 8))
  live(KEYS[1], '')
else
  redis.call('SETRANGE', KEYS[1], 32, bytes_of(last, 8))
  live(KEYS[1], string.format('%.0f', math.max(last - now, 0) + ARGV[4]))
end
return 1
