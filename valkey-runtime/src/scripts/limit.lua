-- KEYS: the state of a limit for one key. ARGV: 'limit'; 'take', 'look' or 'reset'; the cost; the algorithm and its three
-- numbers, as `limiter::rule` has them. The time and the state as it was: from these the client knows the decision.
-- All numbers are whole and below 2^53, so that doubles hold them exactly.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local before = redis.pcall('GET', KEYS[1]) or ''
if type(before) ~= 'string' then
  -- Another type of the server's. Nothing but states of limits belongs here.
  redis.call('DEL', KEYS[1])
  before = ''
end
local answer = string.format('%016.0f', now) .. before
if ARGV[2] == 'reset' then
  redis.call('DEL', KEYS[1])
  return answer
elseif ARGV[2] == 'look' then
  return answer
end
local cost, algorithm = tonumber(ARGV[3]), ARGV[4]
local a, b, c = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

-- The numbers of a state of this algorithm; zeros where it is none.
local x, y, z = 0, 0, 0
if #before == 49 and string.match(before, '^' .. algorithm .. '%d+$') then
  x, y, z = tonumber(string.sub(before, 2, 17)), tonumber(string.sub(before, 18, 33)), tonumber(string.sub(before, 34, 49))
  -- From the future: damaged.
  if x > now + 10000000 then x, y, z = 0, 0, 0 end
end

local allowed, life
if algorithm == 'g' then
  -- a: what drains in a microsecond; b: what a request of cost 1 fills; c: what there is room for.
  y = math.max(math.min(y, c) - math.max(now - x, 0) * a, 0) + cost * b
  x, z = now, 0
  allowed = y <= c
  life = math.floor((y + a - 1) / a)
else
  -- a: the quota; b: the microseconds of a step; c: the steps of a window.
  local period = b * c
  local start = now - now % period
  if x < start then
    z = x + period == start and y or 0
    y = 0
  end
  x, y, z = start, math.min(y, a), math.min(z, a)
  local left = math.floor((start + period - now + b - 1) / b)
  if algorithm == 'f' then z = 0 end
  y = y + cost
  allowed = z * left + y * c <= a * c
  life = start + period - now
  if algorithm == 's' then life = life + period end
end
if allowed then
  local state = algorithm .. string.format('%016.0f%016.0f%016.0f', x, y, z)
  -- After a deletion the server lets a script write at its memory limit too. What takes the place of the same takes no memory.
  if before ~= '' then redis.call('DEL', KEYS[1]) end
  redis.call('SET', KEYS[1], state, 'PX', string.format('%.0f', math.floor((life + 999) / 1000)))
end
return answer
