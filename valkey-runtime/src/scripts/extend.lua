-- KEYS: the epoch of a tag. ARGV: for how many milliseconds at least it is to live, and for how many it then does; or '' twice,
-- for ever. The entry; 0 where there is none. What is neither an epoch, nor a mark or a guard in its place, nor of a later format
-- is damaged: it is removed, as another type of the server's is.
local entry, foreign = entry_at(KEYS[1])
if not entry then
  if foreign then redis.call('DEL', KEYS[1]) end
  return 0
end
if not epoch_in(entry) then
  local is, b = head(entry)
  if is == 'newer' or (is == 'known' and ((b[3] == 2 and #entry == 45) or (b[3] == 3 and is_guarded(entry)))) then return entry end
  redis.call('DEL', KEYS[1])
  return 0
end
if ARGV[1] == '' then
  redis.call('PERSIST', KEYS[1])
else
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 and left < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
end
return entry
