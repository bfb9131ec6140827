-- Freshness and claims, as `envelope::timing` has them to the byte.

-- The head of a value that says until when it is fresh; nil if the entry is none.
local function timed_value(key)
  local bytes = redis.pcall('GETRANGE', key, 0, 58)
  if type(bytes) ~= 'string' then return nil end
  local is, b, timed = head(bytes)
  if is ~= 'known' or not timed then return nil end
  return b, bytes
end

-- The last two bytes of the stamp after that of a value: of the same time, its random bits counted on.
local function next_low(b)
  local low = ((b[19] % 16) * 256 + b[20] + 1) % 4096
  return string.char(b[19] - b[19] % 16 + math.floor(low / 256), low % 256)
end

-- Whether a claim holds still. One that says so for longer than any load lasts is damaged, and so is a pause of over a day.
local function is_claimed(b)
  local left = number(b, 42, 46) * 10 - millis()
  local longest = b[47] + b[48] + b[49] > 0 and 11000 or 86400000
  return left > 0 and left < longest + 10
end

-- Writes a claim that holds for so many milliseconds from now. The token is three bytes; those of zero are nobody's.
local function claim(key, token, life)
  redis.call('SETRANGE', key, 41, bytes_of(math.ceil((millis() + life) / 10), 5) .. token)
end
