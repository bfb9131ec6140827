-- KEYS: the epoch of a tag. ARGV: for how many milliseconds at least it is to live, and for how many it then does; or '' twice,
-- for ever. The entry; 0 where there is none, nil where
-- there is another type of the server's.
local entry = redis.pcall('GET', KEYS[1])
if not entry then return 0 end
if type(entry) ~= 'string' then return false end
if not epoch_in(entry) then return entry end
if ARGV[1] == '' then
  redis.call('PERSIST', KEYS[1])
else
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 and left < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
end
return entry
