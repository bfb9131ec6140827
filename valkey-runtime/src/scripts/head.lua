-- What the first bytes of an entry say, as `envelope::head`: 'corrupt', 'newer', or 'known', its bytes, and whether it says
-- until when it is fresh. Text is compared byte by byte: Lua's `<` on strings follows the server's locale. `FLAGS` stands for
-- the flags that the build understands.
local function head(bytes)
  if #bytes < 35 then return 'corrupt' end
  local b = { string.byte(bytes, 1, 59) }
  if b[1] ~= 0x9d or b[2] ~= 1 then
    if b[1] >= 0x90 and b[1] <= 0x9f and b[2] >= 2 and b[2] <= 0x7f then return 'newer' end
    return 'corrupt'
  end
  if b[3] > 3 or b[4] ~= 0xcd or b[7] ~= 0xce or b[12] ~= 0xcf or b[21] ~= 0xce or b[26] ~= 0xce then return 'corrupt' end
  local timed = b[32] == 0xcf
  if b[31] ~= 0xc0 and not (b[3] == 0 and (FLAGS)[b[31]]) then return 'newer' end
  if timed then
    if #b < 51 then return 'corrupt' end
    if b[3] ~= 0 or b[41] ~= 0xcf then return 'newer' end
  elseif b[32] ~= 0xc0 or b[33] ~= 0xc0 then
    return 'newer'
  end
  local clock = timed and 50 or 34
  if b[clock] == 0xcf then
    if #b < clock + 9 then return 'corrupt' end
    local tags = b[clock + 9]
    if b[3] > 1 or not (tags >= 0x90 and tags <= 0x9f or tags == 0xdc) then return 'newer' end
  elseif b[clock] ~= 0xc0 or b[clock + 1] ~= 0xc0 then
    return 'newer'
  end
  return 'known', b, timed
end

-- Some of the bytes as a number, which is exact below 2^53.
local function number(b, first, last)
  local number = 0
  for i = first, last do number = number * 256 + b[i] end
  return number
end

-- A number below 2^53 as so many bytes, the highest first.
local function bytes_of(number, count)
  local bytes = ''
  for _ = 1, count do
    bytes = string.char(number % 256) .. bytes
    number = math.floor(number / 256)
  end
  return bytes
end

-- The server's time in milliseconds. It stands still within a script.
local function millis()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Whether a value is fresh, which it is unless it says otherwise.
local function is_fresh(b, timed)
  return not timed or number(b, 33, 40) > millis()
end

-- What the entry is to a type of this version and shape, which also reads the versions in `older`, numbers between spaces; as
-- `envelope::standing`. 'nothing' where there is none, and 'foreign' where there is another type of the server's, which is not
-- ours. Of an 'own' one its bytes, and whether it says until when it is fresh. `of` is the hash that an entry of this key has in
-- its header; the shape is its four bytes there.
local function standing(key, version, older, of, shape)
  local bytes = redis.pcall('GETRANGE', key, 0, 58)
  if type(bytes) ~= 'string' then return 'foreign' end
  if bytes == '' and redis.call('EXISTS', key) == 0 then return 'nothing' end
  local is, b, timed = head(bytes)
  if is == 'newer' then return 'protected' end
  if is == 'corrupt' then return 'corrupt' end
  if b[3] == 3 then return 'protected' end
  if b[3] < 2 and string.sub(bytes, 22, 25) ~= of then return 'corrupt' end
  if b[3] ~= 0 then return 'replaceable' end
  local v = b[5] * 256 + b[6]
  if v > version then return 'protected' end
  if v < version and not string.find(older, ' ' .. v .. ' ', 1, true) then return 'replaceable' end
  if v == version and string.sub(bytes, 8, 11) ~= shape then return 'replaceable' end
  if not is_fresh(b, timed) then return 'stale' end
  return 'own', b, timed
end

-- Stores for so many milliseconds; for ever if that is ''.
local function put(key, bytes, ttl)
  if ttl == '' then
    redis.call('SET', key, bytes)
  else
    redis.call('SET', key, bytes, 'PX', ttl)
  end
end

-- Has the entry live for so many milliseconds from now; for ever if that is ''.
local function live(key, ttl)
  if ttl == '' then
    redis.call('PERSIST', key)
  else
    redis.call('PEXPIRE', key, ttl)
  end
end
