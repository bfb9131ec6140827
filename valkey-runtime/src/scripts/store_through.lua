-- KEYS: the key. ARGV: token, the guard's stamp, hold in milliseconds, bytes, TTL in milliseconds or ''.
local guard = guard_in(entry_at(KEYS[1]))
if guard and guard.stamp == ARGV[2] and not guard.shared and #guard.writers == 1 and place_of(guard, ARGV[1]) then
  put(KEYS[1], ARGV[4], ARGV[5])
  return 1
end
leave(KEYS[1], ARGV[1], ARGV[3])
return 0
