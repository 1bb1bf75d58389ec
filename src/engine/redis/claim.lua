-- Takes over channels of a node whose lease ended, and forgets those that are settled. Of a node that is alive nothing is
-- taken, and nothing is forgotten.
--
-- KEYS  1 and 2 as in places.lua, of the node whose lease ended
-- ARGV  1 that node; 2 for how many ms they are left to whoever takes them; 3 the most that are taken; then those that are
--       settled
--
-- Answers the channels.

local nodes, channels = KEYS[1], KEYS[2]
local node, claim, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local is_over = false
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', nodes, '-inf', now)) do
  is_over = is_over or dead == node
end
if not is_over then
  return {}
end

for at = 4, #ARGV do
  redis.call('ZREM', channels, ARGV[at])
end
if #redis.call('ZRANGEBYSCORE', channels, '-inf', '+inf', 'LIMIT', 0, 1) == 0 then
  redis.call('ZREM', nodes, node)
  return {}
end
local taken = redis.call('ZRANGEBYSCORE', channels, '-inf', now, 'LIMIT', 0, most)
for _, channel in ipairs(taken) do
  redis.call('ZADD', channels, now + claim, channel)
end
return taken
