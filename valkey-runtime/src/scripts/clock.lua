-- KEYS: the clock of a namespace. ARGV: 'read', 'advance', or 'reach' and what it is to be no less than. What it is then.
-- What is no decimal number, or is over a day ahead of time, is as none; so is another type of the server's. A read moves a clock
-- that is over a minute behind.
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local before = redis.pcall('GET', KEYS[1])
local clock
if type(before) == 'string' and #before <= 16 and string.match(before, '^[1-9]%d*$') then clock = tonumber(before) end
if clock and clock > micros + 86400000000 then clock = nil end
local floor = ARGV[1] == 'reach' and tonumber(ARGV[2])
if floor and floor > micros + 86400000000 then floor = nil end
local after = micros
if floor then
  after = math.max(clock or micros, floor)
elseif clock and ARGV[1] == 'advance' then
  after = math.max(clock + 1, micros)
elseif clock and clock + 60000000 >= micros then
  after = clock
end
local text = string.format('%.0f', after)
if text == before then return text end
-- It deletes first: after that the server lets a script write at its memory limit too.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], text)
return text
