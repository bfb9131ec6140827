-- The names of the commands of the store that the user may not run. Nothing lies under the key, so none of them does anything.
local denied = {}
local key = ARGV[1]
local function try(name, ...)
  local answer = redis.pcall(name, ...)
  local err = type(answer) == 'table' and answer['err']
  if err and (string.find(err, 'permissions to run', 1, true) or string.find(err, "can't run this command", 1, true)) then
    denied[#denied + 1] = name
  end
end
try('TIME')
try('GET', key)
try('MGET', key)
try('GETRANGE', key, 0, 0)
try('STRLEN', key)
try('EXISTS', key)
try('PTTL', key)
try('SET', key, '', 'XX')
try('SETRANGE', key, 0, '')
try('DEL', key)
try('PEXPIRE', key, 1)
-- No number, so nothing is added.
try('INCRBY', key, 'x')
return denied
