-- KEYS: the epoch of a tag. ARGV: the clock; '', or over how many milliseconds entries fall due. `Epoch` has it to the byte.
local bytes, foreign = entry_at(KEYS[1])
if foreign then redis.call('DEL', KEYS[1]) end
if not bytes then return 0 end
local b, count = epoch_in(bytes)
if not b then
  -- What is not known may hide a later invalidation. Writers take their guard away themselves.
  if not is_guarded(bytes) then redis.call('DEL', KEYS[1]) end
  return 0
end
local function at(place) return number(b, 3 + place * 9, 10 + place * 9) end
local clock, hard = tonumber(ARGV[1]), at(0)
local due, soft, start, length
if count == 5 then due, soft, start, length = at(1), at(2), at(3), at(4) end
if ARGV[2] == '' then
  hard = math.max(hard, clock)
  if soft and soft <= hard then soft = nil end
elseif clock > hard then
  local over = tonumber(ARGV[2])
  if soft and clock <= soft then
    if over == 0 then due = math.max(due, clock) end
  else
    due = over == 0 and clock or soft or 0
    soft, start, length = clock, millis(), over
  end
end
local function element(number) return '\207' .. bytes_of(number, 8) end
local raised = '\145' .. element(hard)
if soft then
  raised = '\149' .. element(hard) .. element(due) .. element(soft) .. element(start) .. element(length)
end
local written = redis.pcall('SET', KEYS[1], raised, 'KEEPTTL')
if written.err then
  -- The server is at its memory limit. What can't be raised can be taken away.
  redis.call('DEL', KEYS[1])
end
return 1
