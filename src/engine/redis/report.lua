-- Takes what a node says of its own sessions on one channel, as one step, and answers what that changed over all nodes.
--
-- KEYS  1 the nodes (sorted by when their leases end, in ms), 2 the sessions
-- ARGV  1 the node; 2 its lease in ms; 3 the number of the report before this one, or "-" if this one says all;
--       4 the number of this one; 5 how many sessions went; then these; then pairs of a session that came and whose it is
--
-- The hash of sessions:
--   s<session>  <node> <whose>   whose: "-", or "+<user>" and, after a line feed, what is said of the user
--   u<user>     how many sessions of the user there are
--   n<node>     the number of the node's last report
--   t           how many sessions there are
--
-- A node without a name, "", has nothing to say: then only what leases ended is taken away.
--
-- What is there is kept for a day after all leases have ended, for it may take long until somebody can be told.
--
-- Answers "forgotten", or pairs of what changed and for whom: "occupied", "vacated", "joined", "left"; and to whoever has
-- no name, "lease" and after how many ms the next lease ends, if there is one.

local nodes, sessions = KEYS[1], KEYS[2]
local node, lease, after, number = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- By user: how many sessions there were before, and what is said of the user.
local before, said = {}, {}
local total = tonumber(redis.call('HGET', sessions, 't') or '0')
local total_before = total

local function count(whose, by)
  total = total + by
  if string.sub(whose, 1, 1) == '-' then
    return
  end
  local user = string.match(whose, '^%+([^\n]*)')
  local left = redis.call('HINCRBY', sessions, 'u' .. user, by)
  if not before[user] then
    before[user] = left - by
  end
  said[user] = whose
  if left <= 0 then
    redis.call('HDEL', sessions, 'u' .. user)
  end
end

local function split(held)
  local at = string.find(held, ' ', 1, true)
  return string.sub(held, 1, at - 1), string.sub(held, at + 1)
end

local function drop(session, held)
  redis.call('HDEL', sessions, 's' .. session)
  local _, whose = split(held)
  count(whose, -1)
end

-- The sessions of these nodes, for as long as they are not among those that are kept.
local function drop_all(of, kept)
  local all = redis.call('HGETALL', sessions)
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 1) == 's' then
      local session = string.sub(all[at], 2)
      local owner = split(all[at + 1])
      if of[owner] and not kept[session] then
        drop(session, all[at + 1])
      end
    end
  end
end

-- Whose lease is over is not there any more.
local dead = redis.call('ZRANGEBYSCORE', nodes, '-inf', now)
if #dead > 0 then
  local of = {}
  for _, name in ipairs(dead) do
    of[name] = true
    redis.call('ZREM', nodes, name)
    redis.call('HDEL', sessions, 'n' .. name)
  end
  drop_all(of, {})
end

local is_known = node == '' or after == '-' or redis.call('HGET', sessions, 'n' .. node) == after
if is_known and node ~= '' then
  -- Those who came before those who went: whoever changed the session was there all the time.
  local went_count = tonumber(ARGV[5])
  local kept = {}
  for at = 6 + went_count, #ARGV, 2 do
    local session, whose = ARGV[at], ARGV[at + 1]
    kept[session] = true
    local held = redis.call('HGET', sessions, 's' .. session)
    redis.call('HSET', sessions, 's' .. session, node .. ' ' .. whose)
    if not held then
      count(whose, 1)
    end
  end
  for at = 6, 5 + went_count do
    local held = redis.call('HGET', sessions, 's' .. ARGV[at])
    -- It may be another node's by now.
    if held and split(held) == node then
      drop(ARGV[at], held)
    end
  end
  if after == '-' then
    drop_all({ [node] = true }, kept)
  end
  redis.call('HSET', sessions, 'n' .. node, number)
  redis.call('ZADD', nodes, now + lease, node)
end

if node ~= '' or #dead > 0 then
  local kept = lease * 3
  if total > 0 then
    kept = math.max(kept, 24 * 60 * 60 * 1000)
  end
  redis.call('HSET', sessions, 't', total)
  redis.call('PEXPIRE', sessions, kept)
  redis.call('PEXPIRE', nodes, kept)
end

local changes = {}
if total_before == 0 and total > 0 then
  changes = { 'occupied', '' }
end
for user, there in pairs(before) do
  local is_there = redis.call('HEXISTS', sessions, 'u' .. user) == 1
  if is_there and there == 0 then
    table.insert(changes, 'joined')
    table.insert(changes, said[user])
  elseif not is_there and there > 0 then
    table.insert(changes, 'left')
    table.insert(changes, said[user])
  end
end
if total_before > 0 and total == 0 then
  table.insert(changes, 'vacated')
  table.insert(changes, '')
end
if node == '' then
  local first = redis.call('ZRANGEBYSCORE', nodes, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if #first > 0 then
    table.insert(changes, 'lease')
    table.insert(changes, string.format('%.0f', tonumber(first[2]) - now))
  end
end
if not is_known then
  table.insert(changes, 1, 'forgotten')
  table.insert(changes, 2, '')
end
return changes
