-- KEYS: the clock of a namespace. ARGV: 'advance' or 'read'. What it is then.
local clock = tonumber(redis.call('GET', KEYS[1]) or '')
if clock and ARGV[1] == 'read' then return string.format('%.0f', clock) end
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
clock = string.format('%.0f', clock and math.max(clock + 1, micros) or micros)
-- It deletes first: after that the server lets a script write at its memory limit too.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], clock)
return clock
