-- KEYS: the key. ARGV: token, life in milliseconds, the stamp of the entry that the reader rejects or '', the version up to
-- which it rejects any value and lease or ''. The entry as it then is; nil where another type of the server's is.
local entry, foreign = entry_at(KEYS[1])
if foreign then return false end
if entry then
  local is, b = head(entry)
  local rejected = false
  if is == 'known' and b[3] <= 1 then
    rejected = (ARGV[3] ~= '' and string.sub(entry, 13, 20) == ARGV[3])
      or (ARGV[4] ~= '' and b[5] * 256 + b[6] <= tonumber(ARGV[4]))
  elseif is == 'known' and b[3] == 2 then
    rejected = ARGV[4] ~= ''
  end
  if not rejected then return entry end
end
local lease = placeholder(2, stamp(ARGV[1])) .. '\196\8' .. ARGV[1]
redis.call('SET', KEYS[1], lease, 'PX', ARGV[2])
return lease
