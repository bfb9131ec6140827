-- What the first bytes of an entry say, as `envelope::head`: 'corrupt', 'newer', or 'known' and its bytes.
-- Text is compared byte by byte: Lua's `<` on strings follows the server's locale.
local function head(bytes)
  if #bytes < 25 then return 'corrupt' end
  local b = { string.byte(bytes, 1, 25) }
  if b[1] ~= 0x9b or b[2] ~= 1 then
    if b[1] >= 0x90 and b[1] <= 0x9f and b[2] >= 2 and b[2] <= 0x7f then return 'newer' end
    return 'corrupt'
  end
  if b[3] > 3 or b[4] ~= 0xcd or b[7] ~= 0xce or b[12] ~= 0xcf then return 'corrupt' end
  for i = 21, 25 do
    if b[i] ~= 0xc0 then return 'newer' end
  end
  return 'known', b
end

-- What the entry is to a type of this version, as `envelope::standing`; 'nothing' where there is none, and 'foreign' where
-- there is another type of the server's, which is not ours.
local function standing(key, version)
  local bytes = redis.pcall('GETRANGE', key, 0, 24)
  if type(bytes) ~= 'string' then return 'foreign' end
  if bytes == '' and redis.call('EXISTS', key) == 0 then return 'nothing' end
  local is, b = head(bytes)
  if is == 'newer' then return 'protected' end
  if is == 'corrupt' then return 'corrupt' end
  if b[3] == 3 then return 'protected' end
  if b[3] ~= 0 then return 'replaceable' end
  local v = b[5] * 256 + b[6]
  if v > version then return 'protected' end
  if v < version or b[8] + b[9] + b[10] + b[11] ~= 0 then return 'replaceable' end
  return 'own'
end

-- Stores for so many milliseconds; for ever if that is ''.
local function put(key, bytes, ttl)
  if ttl == '' then
    redis.call('SET', key, bytes)
  else
    redis.call('SET', key, bytes, 'PX', ttl)
  end
end
