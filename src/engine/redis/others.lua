-- The sessions of the other nodes on one channel whose leases hold.
--
-- KEYS  1 the nodes (sorted by when their leases end, in ms), 2 the sessions, as in report.lua
-- ARGV  1 the node that asks
--
-- Answers how many ms it takes until the first of these leases ends, or -1, and then pairs of a session and whose it is.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local alive = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES')
local holds, first = {}, -1
for at = 1, #alive, 2 do
  if alive[at] ~= ARGV[1] then
    holds[alive[at]] = true
    local left = tonumber(alive[at + 1]) - now
    if first < 0 or left < first then
      first = left
    end
  end
end

local answer = { string.format('%.0f', first) }
if first >= 0 then
  local all = redis.call('HGETALL', KEYS[2])
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 1) == 's' then
      local held = all[at + 1]
      local space = string.find(held, ' ', 1, true)
      if holds[string.sub(held, 1, space - 1)] then
        table.insert(answer, string.sub(all[at], 2))
        table.insert(answer, string.sub(held, space + 1))
      end
    end
  end
end
return answer
