-- KEYS: a lock. ARGV: 'lock'; 'acquire', 'renew' or 'release'; the caller's token in 16 hexadecimal digits; the life of its lease in
-- milliseconds; how many may hold the lock at a time. Answers 'h' and the fencing token if the caller holds it, or did until this
-- release; 'b' and the microseconds until the first lease of others ends; 'g' if the caller does not hold it; '?' if it is no lock.
-- All numbers are whole and below 2^53, so that doubles hold them exactly.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local before = redis.pcall('GET', KEYS[1])
if type(before) == 'table' then
  if string.find(before['err'], 'WRONGTYPE', 1, true) then return '?' end
  return before
end
local act, token, life, permits = ARGV[2], ARGV[3], ARGV[4] * 1000, tonumber(ARGV[5])

local last, gone, holders, own, is_cut = 0, string.rep('0', 16), {}, nil, false
local function number(text)
  local value = string.match(text, '^%d+$') and tonumber(text)
  return value and value < 9007199254740992 and value
end
if before then
  if string.sub(before, 1, 1) ~= 'k' or #before < 33 or (#before - 33) % 64 ~= 0 then return '?' end
  last, gone = number(string.sub(before, 2, 17)), string.sub(before, 18, 33)
  if not last or not string.match(gone, '^[%da-f]+$') then return '?' end
  for at = 34, #before, 64 do
    local whose = string.sub(before, at, at + 15)
    local ends = number(string.sub(before, at + 16, at + 31))
    local fence = number(string.sub(before, at + 32, at + 47))
    local lease = number(string.sub(before, at + 48, at + 63))
    if not (ends and fence and lease) or not string.match(whose, '^[%da-f]+$') then return '?' end
    -- The server's clock was set back.
    if ends - now > lease then
      ends = now + lease
      is_cut = true
    end
    if ends > now then
      holders[#holders + 1] = {whose, ends, fence, lease}
      if whose == token and not own then own = #holders end
    end
  end
end

local answer
if act == 'release' then
  if not own then return 'g' end
  answer = string.format('h%.0f', table.remove(holders, own)[3])
  gone = token
elseif own then
  local holder = holders[own]
  holder[2], holder[4] = now + life, life
  answer = string.format('h%.0f', holder[3])
elseif act == 'renew' or token == gone then
  return 'g'
elseif #holders < permits then
  last = math.max(now, last + 1)
  if last >= 9007199254740992 then return '?' end
  holders[#holders + 1] = {token, now + life, last, life}
  answer = string.format('h%.0f', last)
else
  local first = holders[1][2]
  for _, holder in ipairs(holders) do first = math.min(first, holder[2]) end
  answer = string.format('b%.0f', first - now)
  if not is_cut then return answer end
end

local left, state = 0, {string.format('k%016.0f', last) .. gone}
for _, holder in ipairs(holders) do
  left = math.max(left, holder[2] - now)
  state[#state + 1] = holder[1] .. string.format('%016.0f%016.0f%016.0f', holder[2], holder[3], holder[4])
end
-- After a deletion the server lets a script write at its memory limit too: a holder can renew its lease there.
if before then redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], table.concat(state), 'PX', string.format('%.0f', math.floor((left + 999) / 1000) + 3600000))
return answer
