-- KEYS: the key. ARGV: 'absent' or 'present'; version; older ones that are read too; bytes; TTL in milliseconds or ''; the stamp of
-- a value that counts as none, or that alone counts, or ''; and the milliseconds after which a newer entry counts as none. The
-- bytes tell which key they are for, and their shape. A swap has two more: 'store', 'rest' or 'remove'; and '+' if it may have been
-- carried out before.
local entry = ARGV[4]
local s, b, timed = standing(KEYS[1], tonumber(ARGV[2]), ARGV[3], string.sub(entry, 22, 25), string.sub(entry, 8, 11))
if s == 'protected' then
  local there = entry_at(KEYS[1])
  if is_left_over(there) or has_lapsed(there, ARGV[7]) then s = 'nothing' end
end
local stamp = s == 'own' and string.char(unpack(b, 13, 20))
-- It is stored already.
if stamp and ARGV[9] == '+' and stamp == string.sub(entry, 13, 20) and string.char(unpack(b, 27, 30)) == string.sub(entry, 27, 30) then
  return 1
end
local same = stamp and ARGV[6] ~= '' and stamp == ARGV[6]
local store
if ARGV[1] == 'absent' then
  store = same or (s ~= 'own' and s ~= 'protected' and s ~= 'foreign')
else
  store = s == 'own' and (same or ARGV[6] == '')
end
if not store then return 0 end
if ARGV[8] == 'remove' then
  redis.call('DEL', KEYS[1])
elseif ARGV[8] == 'rest' and stamp then
  local is, c, is_timed = head(entry)
  if is ~= 'known' or c[3] ~= 0 or is_timed ~= timed then return 0 end
  -- The freshness of the present value, and no claim.
  if timed then
    entry = string.sub(entry, 1, 31) .. string.char(unpack(b, 32, 41)) .. string.rep('\0', 8) .. string.sub(entry, 50)
  end
  redis.call('SET', KEYS[1], entry, 'KEEPTTL')
else
  put(KEYS[1], entry, ARGV[5])
end
return 1
