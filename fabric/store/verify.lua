-- The second look of a check, and its repair: each claim that something is filed
-- wrongly is looked at again, all of it at one moment, against what the records
-- themselves have filed ("d").
--
-- ARGV[1] is {repair, items} (JSON), an item {what, field, ...}.  Replies for
-- each item "" when it is right, else what is wrong with it, with a "!" in front
-- when it can't be repaired.

local call = redis.call
local plan = cjson.decode(ARGV[1])
local cache = {}

local function filed(ref)
  local found = cache[ref]
  if found == nil then
    local text = call('HGET', 'o:' .. ref, 'd')
    local known, data = pcall(cjson.decode, text)
    found = known and type(data) == 'table' and data.s and data or false
    cache[ref] = found
  end
  return found
end

local function has(list, wanted)
  for _, item in ipairs(list) do
    if item == wanted then return true end
  end
  return false
end

local function holds(ref, pool, member)
  local record = filed(ref)
  for _, pair in ipairs(record and record.p or {}) do
    if pair[1] == pool and pair[2] == member then return true end
  end
  return false
end

-- Of the one that now stands there and of the candidates, those that claim it.
local function claimants(standing, candidates, claims)
  local found, seen = {}, {}
  if standing then candidates[#candidates + 1] = standing end
  for _, ref in ipairs(candidates) do
    if not seen[ref] and claims(ref) then found[#found + 1] = ref end
    seen[ref] = true
  end
  return found
end

local check = {}

function check.index(kind, id, scope, facet)
  local key = 'x:' .. kind .. ':' .. scope
  local record = filed(kind .. ':' .. id)
  local listed
  if facet == '' then
    listed = record and (has(record.s, scope) or has(record.l, scope))
  else
    key = key .. ':' .. facet
    listed = record and has(record.s, scope) and has(record.f, facet)
  end
  local place, stands = call('HGET', 'o:' .. kind .. ':' .. id, 's'), call('ZSCORE', key, id)
  if listed and stands == place or not listed and not stands then return '' end
  if plan.repair then
    if listed then call('ZADD', key, place, id) else call('ZREM', key, id) end
  end
  if not listed then return id .. ' is filed and should not be' end
  return id .. (stands and ' is filed at a wrong place' or ' is not filed')
end

function check.value(kind, scope, facet)
  local prefix = ':' .. kind .. ':' .. scope .. ':'
  local equals = string.find(facet, '=', 1, true)
  local key, value = 'w' .. prefix .. string.sub(facet, 1, equals - 1), string.sub(facet, equals + 1)
  local used, stands = call('EXISTS', 'x' .. prefix .. facet) == 1, call('ZSCORE', key, value)
  if used == (stands and true or false) then return '' end
  if plan.repair then
    if used then call('ZADD', key, 0, value) else call('ZREM', key, value) end
  end
  return 'value ' .. value .. (used and ' is not known to wildcards' or ' has no record')
end

function check.scopes(ref)
  local record, key = filed(ref), 'o:' .. ref
  if not record then return '' end
  local wrong, wanted, place = false, {}, call('HGET', key, 's')
  for _, list in ipairs({record.s, record.l}) do
    for _, scope in ipairs(list) do wanted['s:' .. scope] = true end
  end
  for _, field in ipairs(call('HKEYS', key)) do
    if string.sub(field, 1, 2) == 's:' then
      if not wanted[field] then
        wrong = true
        if plan.repair then call('HDEL', key, field) end
      elseif call('HGET', key, field) == place then
        wanted[field] = nil
      end
    end
  end
  for field in pairs(wanted) do
    wrong = true
    if plan.repair then call('HSET', key, field, place) end
  end
  return wrong and 'the scopes in the record differ' or ''
end

function check.unique(name, candidates)
  local standing = call('HGET', 'u', name)
  local found = claimants(standing, candidates, function(ref)
    local record = filed(ref)
    return record and has(record.u, name)
  end)
  if found[2] then return '!claimed by ' .. table.concat(found, ' and ') end
  if standing == (found[1] or false) then return '' end
  if plan.repair then
    if found[1] then call('HSET', 'u', name, found[1]) else call('HDEL', 'u', name) end
  end
  return (standing or 'nothing') .. ' stands for ' .. (found[1] or 'nothing')
end

function check.due(ref)
  local record, stands = filed(ref), call('ZSCORE', 'due', ref)
  local wanted = record and record.t
  if not wanted and not stands or wanted and stands and tonumber(wanted) == tonumber(stands) then return '' end
  if plan.repair then
    if wanted then call('ZADD', 'due', wanted, ref) else call('ZREM', 'due', ref) end
  end
  return (stands or 'never') .. ' instead of ' .. (wanted or 'never')
end

function check.member(pool, member, candidates)
  local owner = call('HGET', 'pools', pool)
  if not owner or call('EXISTS', 'o:' .. owner) == 0 then return '' end
  local free, holder = call('SISMEMBER', 'pool:' .. pool, member) == 1, call('HGET', 'held:' .. pool, member)
  local found = claimants(holder, candidates, function(ref) return holds(ref, pool, member) end)
  if found[2] then return '!' .. member .. ' is claimed by ' .. table.concat(found, ' and ') end
  local wanted = found[1] or false
  if holder == wanted and free == not wanted then return '' end
  if plan.repair then
    if wanted then
      call('SREM', 'pool:' .. pool, member)
      call('HSET', 'held:' .. pool, member, wanted)
    else
      call('HDEL', 'held:' .. pool, member)
      call('SADD', 'pool:' .. pool, member)
    end
  end
  return member .. ' is ' .. (free and 'free' or 'not free') .. ' and held by ' .. (holder or 'nobody')
    .. ', and belongs to ' .. (wanted or 'nobody')
end

function check.stranger(pool, member, candidates)
  local owner = call('HGET', 'pools', pool)
  if not owner or call('EXISTS', 'o:' .. owner) == 0 then return '' end
  local holder = call('HGET', 'held:' .. pool, member)
  local found = claimants(holder, candidates, function(ref) return holds(ref, pool, member) end)
  if found[1] then return '!' .. member .. ' of ' .. found[1] .. ' is not a member' end
  if not holder and call('SISMEMBER', 'pool:' .. pool, member) == 0 then return '' end
  if plan.repair then
    call('SREM', 'pool:' .. pool, member)
    call('HDEL', 'held:' .. pool, member)
  end
  return member .. ' is not a member'
end

function check.pool(pool, owner)
  local record = owner ~= '' and filed(owner)
  local wanted = record and has(record.m, pool) and owner or false
  local stands = call('HGET', 'pools', pool)
  if not wanted and stands then
    local other = filed(stands)
    if other and has(other.m, pool) then wanted = stands end
  end
  local keys = call('EXISTS', 'pool:' .. pool, 'held:' .. pool) > 0
  if wanted == stands and (wanted or not keys) then return '' end
  if not wanted then
    for _, ref in ipairs({stands or owner, unpack(call('HVALS', 'held:' .. pool))}) do
      if ref ~= '' and not filed(ref) and call('EXISTS', 'o:' .. ref) == 1 then
        return '!' .. ref .. ' can not be read, so it stays'
      end
      for _, pair in ipairs(filed(ref) and filed(ref).p or {}) do
        if pair[1] == pool then return '!it exists by nothing, and ' .. ref .. ' holds of it' end
      end
    end
  end
  if plan.repair then
    if wanted then
      call('HSET', 'pools', pool, wanted)
    else
      call('HDEL', 'pools', pool)
      call('DEL', 'pool:' .. pool, 'held:' .. pool)
    end
  end
  return 'it exists by ' .. (wanted or 'nothing') .. ' and is filed for ' .. (stands or 'nothing')
end

-- Counters are sums over all records: what the caller summed holds only if
-- nothing was written since.
function check.counter(name, sum, position)
  local last = call('XREVRANGE', 'ev', '+', '-', 'COUNT', 1)
  if (last[1] and last[1][1] or '0-0') ~= position then return 'moved' end
  local stands = tonumber(call('HGET', 'c', name) or 0)
  if stands == sum and (sum ~= 0 or call('HEXISTS', 'c', name) == 0) then return '' end
  if plan.repair then
    if sum ~= 0 then call('HSET', 'c', name, string.format('%d', sum)) else call('HDEL', 'c', name) end
  end
  return string.format('%d instead of %d', stands, sum)
end

function check.reference(ref, to, generation)
  if call('EXISTS', 'o:' .. to) == 1 or call('HGET', 'o:' .. ref, 'g') ~= generation then return '' end
  return '!' .. to .. ' does not exist'
end

local reply = {}
for index, item in ipairs(plan.items) do reply[index] = check[item[1]](unpack(item, 2)) end
return reply
