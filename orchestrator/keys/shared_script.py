"""What Redis does for accounts, in one step that nothing comes between.

Every server (*replica*) tells how much it has spent and set aside for a key in all, not how much
more: telling the same twice changes nothing, and what Redis has forgotten comes back with the
next call. ``n`` counts what a replica tells in one life, so that what is overtaken on the way is
not taken for newer. A replica that has not told anything for ``lease`` seconds is gone: what it
had set aside is free, and what it spent stays spent.

KEYS: 1 a key's dollars in its period, 2 the key's rates and requests under way. ARGV: 1 replica,
2 n, 3 its spent and 4 its reserved nanodollars with what is asked for, 5 its requests under way,
6 nanodollars that others are known to have spent, 7 the budget in nanodollars or -1, 8 lease in
seconds, 9 when the dollars may be forgotten (Unix seconds), 10 requests a minute or 0, 11
requests asked for, 12 tokens a minute or 0, 13 tokens asked for (below 0: given back), 14
requests at a time or 0, 15 whether it may be refused (1) or is only told (0), 16 which of the
replica's lives it is.

Returns what refuses it ("" for nothing), seconds to wait, nanodollars that others spent, that
others have set aside, and how many replicas there are. A string, since Lua's numbers come back
as integers.
"""

ACCOUNT = """
local me, n, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[8])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local others_spent, others_reserved, others_active, replicas = 0, 0, 0, 1
local mine = -1
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local spent, reserved, active, count, at, life = string.match(
    fields[i + 1], '^(%d+) (%d+) (%d+) (%d+) ([%d.]+) (%S+)$')
  if fields[i] == me then
    if life == ARGV[16] then mine = tonumber(count) end
  else
    others_spent = others_spent + tonumber(spent)
    if now - tonumber(at) < lease then
      others_reserved = others_reserved + tonumber(reserved)
      others_active = others_active + tonumber(active)
      replicas = replicas + 1
    end
  end
end
others_spent = math.max(others_spent, tonumber(ARGV[6]))

local function told(why, wait)
  return {why, tostring(wait), string.format('%.0f', others_spent),
          string.format('%.0f', others_reserved), replicas}
end

local function full_at(field, per_min, wanted)
  local at = math.max(tonumber(redis.call('HGET', KEYS[2], field) or '0'), now)
  return at + wanted * 60 / per_min
end

if ARGV[15] == '1' and n > mine then
  local slots = tonumber(ARGV[14])
  if slots > 0 and others_active + tonumber(ARGV[5]) > slots then
    return told('concurrency', 0)
  end
  for _, rate in ipairs({{'requests', 10, 11}, {'tokens', 12, 13}}) do
    local per_min, wanted = tonumber(ARGV[rate[2]]), tonumber(ARGV[rate[3]])
    if per_min > 0 and wanted > 0 then
      local wait = full_at(rate[1], per_min, math.min(wanted, per_min)) - now - 60
      if wait > 0 then return told(rate[1], wait) end
    end
  end
  local budget = tonumber(ARGV[7])
  if budget >= 0 and others_spent + others_reserved + tonumber(ARGV[3]) + tonumber(ARGV[4]) > budget
  then
    return told('budget', 0)
  end
end

for _, rate in ipairs({{'requests', 10, 11}, {'tokens', 12, 13}}) do
  local per_min, wanted = tonumber(ARGV[rate[2]]), tonumber(ARGV[rate[3]])
  if per_min > 0 and wanted ~= 0 then
    redis.call('HSET', KEYS[2], rate[1], string.format('%.6f', full_at(rate[1], per_min, wanted)))
    redis.call('EXPIRE', KEYS[2], 3600)
  end
end
if n > mine then
  redis.call('HSET', KEYS[1], me,
    ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. ARGV[5] .. ' ' .. ARGV[2] .. ' ' ..
    string.format('%.6f', now) .. ' ' .. ARGV[16])
  redis.call('EXPIREAT', KEYS[1], ARGV[9])
end
return told('', 0)
"""
