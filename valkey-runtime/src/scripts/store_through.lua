-- KEYS: the key. ARGV: token, the guard's stamp, hold in milliseconds, bytes, TTL in milliseconds or ''.
local guard = guard_in(entry_at(KEYS[1]))
local alone = guard and guard.stamp == ARGV[2] and not guard.shared and #guard.writers == 1 and place_of(guard, ARGV[1])
local refusal = 0
if alone then
  local life = ARGV[5] ~= '' and { 'PX', ARGV[5] } or {}
  local reply = redis.pcall('SET', KEYS[1], ARGV[4], unpack(life))
  if not reply.err then return 1 end
  -- The server is at its memory limit. The guard can be taken away all the same.
  refusal = reply
end
leave(KEYS[1], ARGV[1], ARGV[3])
return refusal
