-- KEYS: the key. ARGV: token, life in milliseconds, and what the reader rejects: 'nothing'; 'stamp' or 'claim' and the stamp of
-- the entry that it would have replaced or claimed; or 'any', the version up to which it rejects any value and lease, and
-- the milliseconds after which it rejects a newer one too. The entry as it then is; nil where another type of the server's is.
local entry, foreign = entry_at(KEYS[1])
if foreign then return false end
if entry then
  local is, b, timed = head(entry)
  local rejected = false
  if is == 'known' and ARGV[3] == 'claim' then
    if timed and string.sub(entry, 13, 20) == ARGV[4] and not is_claimed(b) then
      local token = string.sub(ARGV[1], 6, 8)
      if token == '\0\0\0' then token = '\0\0\1' end
      claim(KEYS[1], token, tonumber(ARGV[2]))
      redis.call('PEXPIRE', KEYS[1], ARGV[2], 'GT')
      return redis.call('GET', KEYS[1])
    end
  elseif is == 'known' and b[3] <= 1 then
    rejected = (ARGV[3] == 'stamp' and string.sub(entry, 13, 20) == ARGV[4])
      or (ARGV[3] == 'any' and (b[5] * 256 + b[6] <= tonumber(ARGV[4]) or has_lapsed(entry, ARGV[5])))
  elseif is == 'known' and b[3] == 2 then
    rejected = ARGV[3] == 'any'
  elseif is == 'newer' then
    rejected = ARGV[3] == 'any' and has_lapsed(entry, ARGV[5])
  end
  if not rejected and not is_left_over(entry) then return entry end
end
local lease = placeholder(2, stamp(ARGV[1])) .. '\196\8' .. ARGV[1]
redis.call('SET', KEYS[1], lease, 'PX', ARGV[2])
return lease
