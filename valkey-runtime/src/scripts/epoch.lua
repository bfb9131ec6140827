-- The bytes of an epoch and how many numbers they are, as `envelope::epoch` has them; nil if the entry is none.
local function epoch_in(entry)
  local b = { string.byte(entry, 1, 46) }
  local count = (#entry == 10 and b[1] == 0x91 and 1) or (#entry == 46 and b[1] == 0x95 and 5) or 0
  for i = 0, count - 1 do
    -- Numbers are exact below 2^53.
    if b[2 + i * 9] ~= 0xcf or b[3 + i * 9] ~= 0 or b[4 + i * 9] > 0x1f then return nil end
  end
  if count == 0 then return nil end
  if count == 5 then
    local function at(place) return number(b, 3 + place * 9, 10 + place * 9) end
    local hard, due, soft, start, length = at(0), at(1), at(2), at(3), at(4)
    if soft <= hard or soft < due then return nil end
    if length > 31536000000 or start > math.floor(soft / 1000) + 86400000 then return nil end
  end
  return b, count
end

