-- A page of a listing.
--
-- ARGV[1] is the query (JSON): kind, scopes, filters, after, limit, budget, and
-- optionally view and ids.  A filter is {facet, plain values, values with
-- wildcards}, a value with wildcards its pieces between stars, each a list of
-- the texts between question marks.
--
-- Replies {cursor, whether to go on at once, ids missing, item, ...}; an item is
-- a view, or a generation and a record.  The walk is in order of place.  It is
-- led by the filter that has the fewest records, and ends when the page is
-- full, or when the budget is spent: then the caller asks again.

local call = redis.call
local plan = cjson.decode(ARGV[1])
local kind, scopes, filters, limit = plan.kind, plan.scopes, plan.filters, plan.limit
local objects, indexes = 'o:' .. kind .. ':', 'x:' .. kind .. ':'
local budget = plan.budget
local MOST_KEYS, MOST_PROBES, MOST_VALUES, LOOK = 1024, 16, 20000, 12
local ANY = '[%z\1-\127\194-\244][\128-\191]*'

local function quoted(text)
  local escaped = string.gsub(text, '[^%w]', '%%%0')
  return (string.gsub(escaped, '%%%z', '%%%%z'))
end

local function compiled(pieces)
  local result = {}
  for index, texts in ipairs(pieces) do
    if texts[2] then
      local parts = {}
      for position, text in ipairs(texts) do parts[position] = quoted(text) end
      local pattern = table.concat(parts, ANY)
      if index == 1 then pattern = '^' .. pattern end
      if index == #pieces then pattern = pattern .. '$' end
      result[index] = {pattern = pattern}
    else
      result[index] = {text = texts[1]}
    end
  end
  result.prefix = pieces[1][1]
  return result
end

local function matches(glob, value)
  local from, count = 1, #glob
  for index, piece in ipairs(glob) do
    local text = piece.text
    if not text then
      local _, last = string.find(value, piece.pattern, from)
      if not last then return false end
      from = last + 1
    elseif index == 1 then
      if string.sub(value, 1, #text) ~= text then return false end
      from = #text + 1
    elseif index == count then
      local start = #value - #text + 1
      if start < from or string.sub(value, start) ~= text then return false end
    else
      local _, last = string.find(value, text, from, true)
      if not last then return false end
      from = last + 1
    end
  end
  return true
end

for _, filter in ipairs(filters) do
  filter.start = filter[1] .. '='
  filter.plain, filter.globs = {}, {}
  for _, value in ipairs(filter[2]) do filter.plain[value] = true end
  for index, pieces in ipairs(filter[3]) do filter.globs[index] = compiled(pieces) end
end

local function has_facet(facets, filter)
  local start = filter.start
  local length = #start
  for _, facet in ipairs(facets) do
    if string.sub(facet, 1, length) == start then
      local value = string.sub(facet, length + 1)
      if filter.plain[value] then return true end
      for _, glob in ipairs(filter.globs) do
        if matches(glob, value) then return true end
      end
    end
  end
  return false
end

-- The index keys of a filter, or nil when they are too many to be of use.
local function keys_of(filter)
  local keys, total = {}, 0
  local function use(key)
    local size = call('ZCARD', key)
    if size > 0 then
      keys[#keys + 1] = key
      total = total + size
    end
  end
  for _, scope in ipairs(scopes) do
    local stem = indexes .. scope .. ':' .. filter.start
    for value in pairs(filter.plain) do use(stem .. value) end
    local names = 'w:' .. kind .. ':' .. scope .. ':' .. filter[1]
    for _, glob in ipairs(filter.globs) do
      if call('ZCARD', names) > MOST_VALUES then return nil end
      local low, high = '-', '+'
      if glob.prefix ~= '' then low, high = '[' .. glob.prefix, '(' .. glob.prefix .. '\255' end
      for _, value in ipairs(call('ZRANGEBYLEX', names, low, high)) do
        if not filter.plain[value] and matches(glob, value) then
          use(stem .. value)
          if #keys > MOST_KEYS then return nil end
        end
      end
    end
  end
  return keys, total
end

local driver, probes, looks = {}, {}, {}

local function plan_walk()
  for index, scope in ipairs(scopes) do driver[index] = indexes .. scope end
  if #filters == 0 then return end
  local counters = {}
  for index, scope in ipairs(scopes) do counters[index] = '~unfaceted:' .. kind .. ':' .. scope end
  for _, count in ipairs(call('HMGET', 'c', unpack(counters))) do
    if count or plan.ids then
      looks = filters
      return
    end
  end
  if plan.ids then
    looks = filters
    return
  end
  local best, fewest
  for _, filter in ipairs(filters) do
    filter.keys, filter.total = keys_of(filter)
    if filter.keys and (not fewest or filter.total < fewest) then best, fewest = filter, filter.total end
  end
  if best then driver = best.keys end
  for _, filter in ipairs(filters) do
    if filter ~= best then
      if filter.keys and #filter.keys <= MOST_PROBES then
        probes[#probes + 1] = filter.keys
      else
        looks[#looks + 1] = filter
      end
    end
  end
end

local function passes(id)
  for _, keys in ipairs(probes) do
    local found = false
    for _, key in ipairs(keys) do
      budget = budget - 1
      if call('ZSCORE', key, id) then
        found = true
        break
      end
    end
    if not found then return false end
  end
  if looks[1] then
    budget = budget - LOOK
    local filed = call('HGET', objects .. id, 'd')
    if not filed then return false end
    local facets = cjson.decode(filed).f
    for _, filter in ipairs(looks) do
      if not has_facet(facets, filter) then return false end
    end
  end
  return true
end

-- {{id, place as text, place}, ...} by place, each id once.
local function sorted(entries)
  table.sort(entries, function(a, b) return a[3] < b[3] end)
  local ids, places, seen = {}, {}, {}
  for _, entry in ipairs(entries) do
    if not seen[entry[1]] then
      seen[entry[1]] = true
      ids[#ids + 1] = entry[1]
      places[#places + 1] = entry[2]
    end
  end
  return ids, places
end

local function fetch(after, count)
  local ids, places = {}, {}
  if not driver[2] then
    if not driver[1] then return ids, places, true end
    local found = call('ZRANGEBYSCORE', driver[1], '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, count)
    for index = 1, #found, 2 do
      ids[#ids + 1] = found[index]
      places[#places + 1] = found[index + 1]
    end
    return ids, places, #ids < count
  end
  local entries, horizon = {}, math.huge
  for _, key in ipairs(driver) do
    budget = budget - 1
    local found = call('ZRANGEBYSCORE', key, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, count)
    for index = 1, #found, 2 do
      entries[#entries + 1] = {found[index], found[index + 1], tonumber(found[index + 1])}
    end
    if #found == 2 * count then horizon = math.min(horizon, tonumber(found[#found])) end
  end
  local near = {}
  for _, entry in ipairs(entries) do
    if entry[3] <= horizon then near[#near + 1] = entry end
  end
  ids, places = sorted(near)
  return ids, places, horizon == math.huge
end

local reply, missing, taken, last = {'', 0, {}}, {}, 0, nil
local view = plan.view and 'v:' .. plan.view

local function push(id)
  if view then
    local text = call('HGET', objects .. id, view)
    if not text then return false end
    reply[#reply + 1] = text
  else
    local found = call('HMGET', objects .. id, 'g', 'r')
    if not found[1] then return false end
    reply[#reply + 1] = found[1]
    reply[#reply + 1] = found[2]
  end
  return true
end

-- Whether the page is complete.
local function walk(ids, places)
  for index, id in ipairs(ids) do
    if passes(id) then
      if taken == limit then
        reply[1] = last
        return true
      end
      if push(id) then
        taken = taken + 1
        last = places[index]
      end
    end
    budget = budget - 1
    if budget < 0 then
      reply[1], reply[2] = places[index], 1
      return true
    end
  end
  return false
end

plan_walk()
if plan.ids then
  local entries = {}
  for _, id in ipairs(plan.ids) do
    local place
    for _, key in ipairs(driver) do
      place = place or call('ZSCORE', key, id)
    end
    if not place then
      missing[#missing + 1] = id
    elseif tonumber(place) > tonumber(plan.after) then
      entries[#entries + 1] = {id, place, tonumber(place)}
    end
  end
  budget = math.huge
  walk(sorted(entries))
  reply[3] = missing
  return reply
end
local after, count = plan.after, limit + 1
if probes[1] or looks[1] then count = math.max(count, 64) end
if #driver > 1 then count = math.max(math.ceil(count / #driver) + 1, #driver > 256 and 4 or 16) end
while true do
  local ids, places, ended = fetch(after, count)
  if walk(ids, places) or ended then return reply end
  after = places[#places]
end
