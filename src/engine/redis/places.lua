-- Takes on which channels a node has sessions, and answers what is known of all nodes. Who only asks leaves no trace.
--
-- KEYS  1 the nodes that have sessions anywhere (sorted by when their leases end, in ms), 2 the node's channels (sorted by
--       until when another node takes care of them, in ms)
-- ARGV  1 the node; 2 its lease in ms; 3 how many channels it left; then these; then those to which it came
--
-- Answers "known" or "forgotten", and a few of the nodes whose leases ended.

local nodes, channels = KEYS[1], KEYS[2]
local node, lease, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local known = 'forgotten'
for _, alive in ipairs(redis.call('ZRANGEBYSCORE', nodes, '(' .. now, '+inf')) do
  if alive == node then
    known = 'known'
  end
end

for at = 4, 3 + left do
  redis.call('ZREM', channels, ARGV[at])
end
for at = 4 + left, #ARGV do
  redis.call('ZADD', channels, 0, ARGV[at])
end

if #redis.call('ZRANGEBYSCORE', channels, '-inf', '+inf', 'LIMIT', 0, 1) > 0 then
  local kept = math.max(lease * 3, 24 * 60 * 60 * 1000)
  redis.call('ZADD', nodes, now + lease, node)
  redis.call('PEXPIRE', nodes, kept)
  redis.call('PEXPIRE', channels, kept)
elseif left > 0 then
  redis.call('ZREM', nodes, node)
end

local answer = redis.call('ZRANGEBYSCORE', nodes, '-inf', now, 'LIMIT', 0, 10)
table.insert(answer, 1, known)
return answer
