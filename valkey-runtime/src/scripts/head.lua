-- What the entry is to a type of this version, as `envelope::standing` says it; and whether it holds a value of any.
-- Text is compared byte by byte: Lua's `<` on strings follows the server's locale.
local function standing(key, version)
  local head = redis.pcall('GETRANGE', key, 0, 24)
  if type(head) ~= 'string' then return 'corrupt', false end
  if head == '' then
    if redis.call('EXISTS', key) == 0 then return 'nothing', false end
    return 'corrupt', false
  end
  if #head < 25 then return 'corrupt', false end
  local b = { string.byte(head, 1, 25) }
  if b[1] ~= 0x9b or b[2] ~= 1 then
    if b[1] >= 0x90 and b[1] <= 0x9f and b[2] >= 2 and b[2] <= 0x7f then return 'protected', false end
    return 'corrupt', false
  end
  if b[3] > 3 or b[4] ~= 0xcd or b[7] ~= 0xce or b[12] ~= 0xcf then return 'corrupt', false end
  for i = 21, 25 do
    if b[i] ~= 0xc0 then return 'protected', false end
  end
  if b[3] == 3 then return 'protected', false end
  if b[3] ~= 0 then return 'replaceable', false end
  local v = b[5] * 256 + b[6]
  if v > version then return 'protected', true end
  if v < version or b[8] + b[9] + b[10] + b[11] ~= 0 then return 'replaceable', true end
  return 'own', true
end
