-- KEYS: the key. ARGV: token, life in milliseconds, the stamp that the reader rejected or ''. The entry as it then is.
local entry, foreign = entry_at(KEYS[1])
if foreign then return false end
if entry then
  local is, b = head(entry)
  local rejected = is == 'known' and b[3] <= 1 and ARGV[3] ~= '' and string.sub(entry, 13, 20) == ARGV[3]
  if not rejected then return entry end
end
local lease = placeholder(2, stamp(ARGV[1])) .. '\196\8' .. ARGV[1]
redis.call('SET', KEYS[1], lease, 'PX', ARGV[2])
return lease
