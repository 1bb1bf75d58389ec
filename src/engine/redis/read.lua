-- Reads part of a channel's log. What is too old goes.
--
-- KEYS  1 the channel's top, 2 its log
-- ARGV  1 an epoch, should the channel be unknown; 2 for how long it is then kept, in ms
--       3 the first offset that is wanted; 4 or the newest so many, if that is more (-1: they are not wanted)
--       5 the most entries; 6 the most bytes of them, but for the first two
--
-- Answers the top; the first line of the oldest entry (empty if there is none); the first offset that was wanted after
-- all; `end` if nothing follows in the log (else it is empty); and entries from that offset on.
-- `publish.lua` says what they look like.

local top_key, log = KEYS[1], KEYS[2]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local top = redis.call('GET', top_key)
if not top then
  local time = string.format('%.0f', now)
  top = table.concat({ ARGV[1] .. '-0', time, 0, 0, time, 0, ARGV[2] }, ' ')
  redis.call('SET', top_key, top, 'PX', ARGV[2])
  redis.call('UNLINK', log)
  return { top, '', ARGV[3], 'end' }
end
local offset, age = string.match(top, '^%w+%-(%d+)%-?%w* %d+ %d+ %d+ %d+ (%d+)')
offset, age = tonumber(offset), tonumber(age)

local first, oldest = nil, 0
while true do
  first = redis.call('XRANGE', log, string.format('%.0f', oldest), '+', 'COUNT', 1)[1]
  if not first then
    return { top, '', ARGV[3], 'end' }
  end
  if now - tonumber(string.match(first[2][2], '^%S+ %S+ (%d+)')) <= age then
    break
  end
  -- Where Redis takes no writes, what is too old is passed over.
  redis.pcall('XDEL', log, first[1])
  oldest = tonumber(string.match(first[1], '^%d+')) + 1
end

local from, newest, count = math.max(tonumber(ARGV[3]), oldest), tonumber(ARGV[4]), tonumber(ARGV[5])
local bytes_max = tonumber(ARGV[6])
local answer = { top, string.match(first[2][2], '^[^\n]*'), ARGV[3], 'end' }
if newest >= 0 then
  from = math.min(from, math.max(offset - newest + 1, 0))
  answer[3] = string.format('%.0f', from)
end
if from > offset then
  return answer
end

-- Few at a time, for all that is looked at is copied.
local next, taken, bytes = from, 0, 0
while taken < count do
  local wanted = math.min(count - taken, 16)
  local entries = redis.call('XRANGE', log, string.format('%.0f', next), '+', 'COUNT', wanted)
  for _, entry in ipairs(entries) do
    bytes = bytes + #entry[2][2]
    if taken >= 2 and bytes > bytes_max then
      answer[4] = ''
      return answer
    end
    taken = taken + 1
    answer[#answer + 1] = entry[2][2]
    next = tonumber(string.match(entry[1], '^%d+')) + 1
  end
  if #entries < wanted then
    return answer
  end
end
answer[4] = ''
return answer
