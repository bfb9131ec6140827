-- Leases and guards, as `envelope::placeholder` has them to the byte.
local time = redis.call('TIME')
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = math.floor(micros / 1000)

-- The stamp of what this token makes now: microseconds << 12 | the token's low 12 bits.
local function stamp(token)
  local low = (string.byte(token, 7) % 16) * 256 + string.byte(token, 8)
  return bytes_of(math.floor(micros / 16), 6) .. bytes_of((micros % 16) * 4096 + low, 2)
end

local function placeholder(kind, made)
  return '\157\1' .. string.char(kind) .. '\205\0\0\206\0\0\0\0\207' .. made
    .. '\206\0\0\0\0\206\0\0\0\0\192\192\192\192\192'
end

-- The entry; nil where there is none or another type of the server's, which 'foreign' tells.
local function entry_at(key)
  local entry = redis.pcall('GET', key)
  if type(entry) == 'string' then return entry end
  if entry then return nil, 'foreign' end
  return nil
end

-- The guard in an entry, without the writers whose places have run out or are over a day ahead; nil if it is none.
local function guard_in(entry)
  if not entry then return nil end
  local is, b = head(entry)
  if is ~= 'known' or b[3] ~= 3 then return nil end
  local guard = { stamp = string.sub(entry, 13, 20), shared = string.byte(entry, 37) ~= 0xc2, writers = {} }
  for at = 41, #entry - 19, 20 do
    local writer = { token = string.sub(entry, at + 3, at + 10), deadline = string.sub(entry, at + 12, at + 19) }
    writer.until_ = 0
    for i = 1, 8 do writer.until_ = writer.until_ * 256 + string.byte(writer.deadline, i) end
    if writer.until_ > now and writer.until_ <= now + 86400000 then table.insert(guard.writers, writer) end
  end
  return guard
end

-- Whether the entry is a guard in which somebody has a place.
local function is_guarded(entry)
  local guard = guard_in(entry)
  return guard ~= nil and #guard.writers > 0
end

-- Whether it is a placeholder that nobody holds any more: a lease that is older than any load lasts, or from the future; a guard
-- without a place.
local function is_left_over(entry)
  local is, b = head(entry)
  if is ~= 'known' or b[3] < 2 then return false end
  if b[3] == 3 then return not is_guarded(entry) end
  local made = number(b, 13, 18) * 16 + math.floor(b[19] / 16)
  return math.abs(micros - made) > 11000000
end

-- Whether a newer entry, a value or an absence, no longer wins over a load: its stamp is more than so many milliseconds old;
-- with 0, whatever its stamp.
local function has_lapsed(entry, newer_wins)
  local b = { string.byte(entry, 1, 20) }
  if #b < 20 or b[1] ~= 0x9d or b[2] ~= 1 or b[3] > 1 or b[12] ~= 0xcf then return false end
  local made = number(b, 13, 18) * 16 + math.floor(b[19] / 16)
  return newer_wins == '0' or micros - made > tonumber(newer_wins) * 1000
end

local function place_of(guard, token)
  for at, writer in ipairs(guard.writers) do
    if writer.token == token then return at end
  end
  return nil
end

-- Leaves the guard at the key until its last place runs out; nothing if none is left.
-- It deletes first: after that the server lets a script write at its memory limit too.
local function put_guard(key, guard)
  local last = 0
  for _, writer in ipairs(guard.writers) do last = math.max(last, writer.until_) end
  redis.call('DEL', key)
  if last <= now then return end
  local bytes = { placeholder(3, guard.stamp), '\146', guard.shared and '\195' or '\194', '\220', bytes_of(#guard.writers, 2) }
  for _, writer in ipairs(guard.writers) do
    table.insert(bytes, '\146\196\8' .. writer.token .. '\207' .. writer.deadline)
  end
  redis.call('SET', key, table.concat(bytes), 'PX', string.format('%.0f', last - now))
end

-- Gives a writer a place for so many milliseconds, or keeps the one it has. Who comes to others shares their guard.
local function place(key, guard, token, life)
  if not guard or #guard.writers == 0 then
    guard = { stamp = stamp(token), shared = false, writers = {} }
  end
  local at = place_of(guard, token)
  if not at then
    if #guard.writers > 0 then guard.shared = true end
    at = #guard.writers + 1
  end
  local deadline = now + tonumber(life)
  guard.writers[at] = { token = token, deadline = bytes_of(deadline, 8), until_ = deadline }
  put_guard(key, guard)
end

-- Takes a writer out of the guard, and whatever else is there away; with a hold its place runs out then. 1 if it had one.
local function leave(key, token, hold)
  local entry, foreign = entry_at(key)
  if foreign then return 0 end
  local guard = guard_in(entry)
  local at = guard and place_of(guard, token)
  if hold ~= '0' then
    place(key, guard, token, hold)
  elseif guard then
    for i = #guard.writers, 1, -1 do
      if guard.writers[i].token == token then table.remove(guard.writers, i) end
    end
    guard.shared = true
    put_guard(key, guard)
  elseif entry then
    redis.call('DEL', key)
  end
  return at and 1 or 0
end
