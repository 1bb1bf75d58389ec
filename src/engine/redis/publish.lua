-- Stores one publication and tells the nodes, as one step.
--
-- KEYS  1 the channel's top, 2 its log, 3 (optional) what is remembered of the idempotency key
-- ARGV  1 an epoch, should the log begin a new life; 2 the publication's tag; 3 the lengths of its event and of
--       its sender, or - for none; 4 its event, sender and data; 5 the bytes that it counts for
--       6, 7, 8 the window's count, bytes and age in ms; 9 for how long the top is kept, in ms
--       10 where to tell the nodes; 11 fingerprint; 12 how long a key lives, in ms
--       13 (optional) its publisher waits for replicas
--
-- Answers "+" and the new position, "=" and the position of the first time, or "!" for a key of another payload.
--
-- The top:    <position> <time> <bytes ever> <bytes before the oldest> <time of the oldest> <age> <ttl>
-- An entry:   <position> <tag of the one before, or -> <time> <bytes before it> <lengths, as in 3>\n<as in 4>
-- The oldest's bytes and time may be those of one that is gone: they are lower bounds, put right when they matter.

local top_key, log, key = KEYS[1], KEYS[2], KEYS[3]
local epoch, tag, lengths, words_and_data = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local size, count_max, bytes_max, age = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

local function whole(number)
  return string.format('%.0f', number)
end

if key then
  local seen = redis.call('GET', key)
  if seen then
    local fingerprint, position = string.match(seen, '^(%S+) (%S+)$')
    if fingerprint ~= ARGV[11] then
      return '!'
    end
    -- Replicas can be waited for only after a write. Whoever has this one has the publication, too.
    if ARGV[13] then
      redis.call('PEXPIRE', key, ARGV[12])
    end
    return '=' .. position
  end
end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local offset, previous, time, bytes, low, oldest = 0, '-', now, 0, 0, now
local top = redis.call('GET', top_key)
if top then
  local o, p, t, b, l, a
  epoch, o, p, t, b, l, a = string.match(top, '^(%w+)%-(%d+)%-?(%w*) (%d+) (%d+) (%d+) (%d+)')
  offset, bytes, low, oldest = tonumber(o), tonumber(b), tonumber(l), tonumber(a)
  time = math.max(now, tonumber(t))
  previous = p == '' and '-' or p
end

local before = bytes
bytes, offset = bytes + size, offset + 1
local is_kept = count_max > 0 and size <= bytes_max
-- Makes room; what is too old goes too. A look at the oldest costs its bytes, so it is looked at only if it may go.
while top and is_kept and (bytes - low > bytes_max or now - oldest > age) do
  local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  if not first then
    low, oldest = before, time
    break
  end
  local t, b = string.match(first[2][2], '^%S+ %S+ (%d+) (%d+)')
  low, oldest = tonumber(b), tonumber(t)
  if bytes - low <= bytes_max and now - oldest <= age then
    break
  end
  redis.call('XDEL', log, first[1])
end

local position = epoch .. '-' .. whole(offset) .. '-' .. tag
local words = { position, whole(time), whole(bytes), whole(low), whole(oldest), ARGV[8], ARGV[9] }
-- First, for it is what a full Redis refuses: nothing is done then.
redis.call('SET', top_key, table.concat(words, ' '), 'PX', ARGV[9])
if not top or not is_kept then
  redis.call('UNLINK', log)
end
local entry = table.concat({ position, previous, whole(time), whole(before), lengths }, ' ') .. '\n' .. words_and_data
if is_kept then
  redis.call('XADD', log, 'MAXLEN', count_max, whole(offset) .. '-0', 'p', entry)
  redis.call('PEXPIRE', log, age)
end
if key then
  redis.call('SET', key, ARGV[11] .. ' ' .. position, 'PX', ARGV[12])
end
-- In a Cluster it is `SPUBLISH`: `Scripts::new` sees to that.
redis.call('PUBLISH', ARGV[10], entry)
return '+' .. position
