-- KEYS: the key.
local _, value = standing(KEYS[1], 0)
redis.call('DEL', KEYS[1])
if value then return 1 end
return 0
