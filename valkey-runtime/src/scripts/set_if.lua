-- KEYS: the key. ARGV: 'absent' or 'present'; version; older ones that are read too; bytes; TTL in milliseconds or ''; the stamp of
-- a value that counts as none, or that alone counts, or ''; and the milliseconds after which a newer entry counts as none. The
-- bytes tell which key they are for, and their shape.
local s, b = standing(KEYS[1], tonumber(ARGV[2]), ARGV[3], string.sub(ARGV[4], 22, 25), string.sub(ARGV[4], 8, 11))
if s == 'protected' then
  local entry = entry_at(KEYS[1])
  if is_left_over(entry) or has_lapsed(entry, ARGV[7]) then s = 'nothing' end
end
local same = s == 'own' and ARGV[6] ~= '' and string.char(unpack(b, 13, 20)) == ARGV[6]
local store
if ARGV[1] == 'absent' then
  store = same or (s ~= 'own' and s ~= 'protected' and s ~= 'foreign')
else
  store = s == 'own' and (same or ARGV[6] == '')
end
if not store then return 0 end
put(KEYS[1], ARGV[4], ARGV[5])
return 1
