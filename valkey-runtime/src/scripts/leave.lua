-- KEYS: the key. ARGV: token, hold in milliseconds.
return leave(KEYS[1], ARGV[1], ARGV[2])
