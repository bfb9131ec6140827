-- KEYS: the key. ARGV: token, life in milliseconds.
local guard = guard_in(entry_at(KEYS[1]))
if not guard or not place_of(guard, ARGV[1]) then return 0 end
place(KEYS[1], guard, ARGV[1], ARGV[2])
return 1
