-- KEYS: the key. ARGV: 'over' or 'absent'; version; bytes; TTL in milliseconds or ''. The bytes tell which key they are for. As
-- `only_copy::There::admits`.
local bytes = redis.pcall('GETRANGE', KEYS[1], 0, 58)
local over = ARGV[1] == 'over'
local store = true
if type(bytes) ~= 'string' then
  store = over
elseif bytes ~= '' or redis.call('EXISTS', KEYS[1]) == 1 then
  local is, b, timed = head(bytes)
  if is ~= 'known' then
    store = over and is == 'corrupt'
  elseif b[3] == 0 then
    local ours = string.sub(bytes, 22, 25) == string.sub(ARGV[3], 22, 25)
    local newer = ours and b[5] * 256 + b[6] > tonumber(ARGV[2])
    store = not newer and (over or ours and not is_fresh(b, timed))
  elseif b[3] == 3 then
    store = over or is_left_over(entry_at(KEYS[1]))
  end
end
if not store then return 0 end
put(KEYS[1], ARGV[3], ARGV[4])
return 1
