-- KEYS: the key. ARGV: 'absent' or 'present', version, bytes, TTL in milliseconds or '', and the stamp of a value that counts as
-- none, or that alone counts; or ''. The bytes tell which key they are for.
local s, b = standing(KEYS[1], tonumber(ARGV[2]), string.sub(ARGV[3], 22, 25))
if s == 'protected' and is_left_over(entry_at(KEYS[1])) then s = 'nothing' end
local same = s == 'own' and ARGV[5] ~= '' and string.char(unpack(b, 13, 20)) == ARGV[5]
local store
if ARGV[1] == 'absent' then
  store = same or (s ~= 'own' and s ~= 'protected' and s ~= 'foreign')
else
  store = s == 'own' and (same or ARGV[5] == '')
end
if not store then return 0 end
put(KEYS[1], ARGV[3], ARGV[4])
return 1
