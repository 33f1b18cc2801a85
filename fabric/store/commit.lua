-- Checks and applies one transaction: all of it, or nothing.
--
-- ARGV[1] is the plan (JSON); then come, for each put in turn, the record, what
-- is filed for it (JSON), and its views.  Replies {"ok", member taken, ...} or
-- {name of an error, field, ...}.  Nothing is written before every check has
-- passed, and nothing after that can fail.

local call = redis.call
local plan = cjson.decode(ARGV[1])
local NOTHING = {s = {}, l = {}, f = {}, u = {}, c = {}, p = {}, m = {}, v = {}, e = {}, o = ''}
local CHUNK = 4000

-- What was filed, by this version or one that filed less.
local function decoded(text)
  local known, filed = pcall(cjson.decode, text)
  if not known or type(filed) ~= 'table' then return NOTHING end
  for name, nothing in pairs(NOTHING) do
    if filed[name] == nil then filed[name] = nothing end
  end
  return filed
end

local function set_of(...)
  local set = {}
  for _, list in ipairs({...}) do
    for _, item in ipairs(list) do set[item] = true end
  end
  return set
end

-- What each put and delete changes, and whether it meets what the caller saw.
local rows, created, deleted = {}, {}, {}
local delta = {}
local freed_names, named = {}, {}
local freed_members, freed_count, claims = {}, {}, {}
local creations = 0

local function weigh(row)
  local old, new = row.old, row.new
  for counter, amount in pairs(new.c) do delta[counter] = (delta[counter] or 0) + amount end
  for counter, amount in pairs(old.c) do delta[counter] = (delta[counter] or 0) - amount end
  if old.u[1] or new.u[1] then
    local before, after = set_of(old.u), set_of(new.u)
    for name in pairs(before) do
      if not after[name] then freed_names[name] = true end
    end
    for name in pairs(after) do
      if not before[name] then named[#named + 1] = {name, row} end
    end
  end
  if old.p[1] or new.p[1] then
    local before, after = {}, {}
    for _, pair in ipairs(old.p) do before[pair[1] .. '\0' .. pair[2]] = pair end
    for _, pair in ipairs(new.p) do after[pair[1] .. '\0' .. pair[2]] = pair end
    for key, pair in pairs(before) do
      if not after[key] then
        freed_members[key] = pair
        freed_count[pair[1]] = (freed_count[pair[1]] or 0) + 1
      end
    end
    for key, pair in pairs(after) do
      if not before[key] then claims[#claims + 1] = {key, pair, row} end
    end
  end
end

local function look(kind, id, expected)
  local ref = kind .. ':' .. id
  local key = 'o:' .. ref
  if expected == 0 then
    if call('EXISTS', key) == 1 then return nil, {'AlreadyExists', kind, id, id} end
    created[ref] = true
    return {kind = kind, id = id, ref = ref, key = key, generation = 0}
  end
  local found = call('HMGET', key, 'g', 'd', 's')
  if not found[1] then return nil, {'NotFound', kind, id} end
  if tonumber(found[1]) ~= expected then return nil, {'Conflict', kind, id} end
  -- Without what was filed it is filed as if new; only a corruption or its repair comes here.
  return {kind = kind, id = id, ref = ref, key = key, generation = expected, filed = found[2], place = found[3]}
end

local put_rows, delete_rows = {}, {}
for index, put in ipairs(plan.puts) do
  local row, refusal = look(put[1], put[2], put[3])
  if refusal then return refusal end
  put_rows[index] = row
end
for index, delete in ipairs(plan.deletes) do
  local row, refusal = look(delete[1], delete[2], delete[3])
  if refusal then return refusal end
  delete_rows[index] = row
end

-- Free members for the placeholders.
local members, just_taken, answer = {}, {}, {'ok'}
for _, take in ipairs(plan.takes) do
  local pool, placeholders, named = take[1], take[2], set_of(take[3])
  local count = 0
  for _, member in ipairs(call('SRANDMEMBER', 'pool:' .. pool, #placeholders + #take[3])) do
    if count < #placeholders and not named[member] then
      count = count + 1
      members[placeholders[count]] = member
      just_taken[pool .. '\0' .. member] = true
      answer[#answer + 1] = member
    end
  end
  if count < #placeholders then
    return {'PoolEmpty', pool, tostring(#placeholders)}
  end
end

-- A text with the members in place of their placeholders.
local function filled(text)
  for _, prefix in ipairs(plan.prefixes) do
    local parts, from = {}, 1
    local start, last = string.find(text, prefix, 1, true)
    while start do
      local number = string.match(text, '^%d+~', last + 1) or ''
      parts[#parts + 1] = string.sub(text, from, start - 1)
      from = last + 1 + #number
      local member = members[prefix .. number]
      if member and string.sub(text, from, from) == '-' then
        member = string.gsub(member, '[.:]', '-')
        from = from + 1
      end
      parts[#parts + 1] = member or string.sub(text, start, from - 1)
      start, last = string.find(text, prefix, from, true)
    end
    if from > 1 then
      parts[#parts + 1] = string.sub(text, from)
      text = table.concat(parts)
    end
  end
  return text
end

-- The texts, with those members in them, and what they change.
local argument = 2
for position, put in ipairs(plan.puts) do
  local row, texts = put_rows[position], {}
  for index = 1, 2 + #put[5] do
    local text = ARGV[argument]
    if put[4] == 1 then text = filled(text) end
    texts[index] = text
    argument = argument + 1
  end
  row.texts, row.views = texts, put[5]
  row.what = row.generation == 0 and 'created' or 'changed'
  row.same = row.filed == texts[2]
  row.new = decoded(texts[2])
  row.old = row.same and row.new or decoded(row.filed)
  if not row.same then weigh(row) end
  rows[#rows + 1] = row
  if not row.place then creations = creations + 1 end
end
for _, row in ipairs(delete_rows) do
  row.what = 'deleted'
  row.old, row.new = decoded(row.filed), NOTHING
  deleted[row.ref] = true
  weigh(row)
  rows[#rows + 1] = row
end

-- The other conditions.
for _, thing in ipairs(plan.unused) do
  local counter = 'uses:' .. thing[1] .. ':' .. thing[2]
  local users = tonumber(call('HGET', 'c', counter) or 0) + (delta[counter] or 0)
  if users > 0 then return {'InUse', thing[1], thing[2], string.format('%d others', users)} end
end
for _, need in ipairs(plan.needs) do
  local ref = need[1] .. ':' .. need[2]
  if deleted[ref] or not created[ref] and call('EXISTS', 'o:' .. ref) == 0 then
    return {'NotFound', need[1], need[2]}
  end
end
local names_given = {}
for _, claim in ipairs(named) do
  local name, row = claim[1], claim[2]
  local holder = names_given[name] or not freed_names[name] and call('HGET', 'u', name)
  if holder and holder ~= row.ref then
    return {'AlreadyExists', row.kind, name, string.match(holder, '^[^:]*:(.*)$')}
  end
  names_given[name] = row.ref
end
local new_pools = {}
for _, made in ipairs(plan.pools) do
  local holder = call('HGET', 'pools', made[1])
  if holder then return {'AlreadyExists', 'pool', made[1], holder} end
  new_pools[made[1]] = set_of(made[3])
end
local members_given, claimed_count = {}, {}
for _, claim in ipairs(claims) do
  local key, pool, member, ref = claim[1], claim[2][1], claim[2][2], claim[3].ref
  local holder = members_given[key]
  if not holder and not just_taken[key] and not freed_members[key] then
    holder = call('HGET', 'held:' .. pool, member)
    if not holder and not (new_pools[pool] and new_pools[pool][member])
        and call('SISMEMBER', 'pool:' .. pool, member) == 0 then
      holder = ''
    end
  end
  if holder and holder ~= ref then return {'MemberTaken', pool, member, holder} end
  members_given[key] = ref
  claimed_count[pool] = (claimed_count[pool] or 0) + 1
end
for _, row in ipairs(rows) do
  if row.what == 'deleted' then
    for _, pool in ipairs(row.old.m) do
      local held = call('HLEN', 'held:' .. pool)
      if held - (freed_count[pool] or 0) + (claimed_count[pool] or 0) > 0 then
        local found = call('HSCAN', 'held:' .. pool, 0, 'COUNT', 1)[2]
        return {'InUse', row.kind, row.id, found[2] or ''}
      end
    end
  end
end
for _, limit in ipairs(plan.limits) do
  local more = delta[limit[1]] or 0
  if more > 0 then
    local used = tonumber(call('HGET', 'c', limit[1]) or 0)
    if used + more > limit[2] then
      return {'LimitExceeded', limit[1], string.format('%d', limit[2]), string.format('%d', used),
        string.format('%d', used + more)}
    end
  end
end

-- From here on everything is written.
if creations > 0 then
  local place = call('INCRBY', 'seq', creations) - creations
  for _, row in ipairs(rows) do
    if not row.place and row.what ~= 'deleted' then
      place = place + 1
      row.place = string.format('%.0f', place)
    end
  end
end

for name in pairs(freed_names) do
  if not names_given[name] then call('HDEL', 'u', name) end
end
for name, ref in pairs(names_given) do call('HSET', 'u', name, ref) end

for _, made in ipairs(plan.pools) do
  local pool, list = made[1], made[3]
  call('HSET', 'pools', pool, made[2])
  for first = 1, #list, CHUNK do
    call('SADD', 'pool:' .. pool, unpack(list, first, math.min(first + CHUNK - 1, #list)))
  end
end
for key, pair in pairs(freed_members) do
  if not members_given[key] then
    call('HDEL', 'held:' .. pair[1], pair[2])
    call('SADD', 'pool:' .. pair[1], pair[2])
  end
end
for _, claim in ipairs(claims) do
  call('SREM', 'pool:' .. claim[2][1], claim[2][2])
  call('HSET', 'held:' .. claim[2][1], claim[2][2], claim[3].ref)
end

for counter, amount in pairs(delta) do
  if amount ~= 0 and call('HINCRBY', 'c', counter, amount) == 0 then call('HDEL', 'c', counter) end
end

-- Indexes are gathered first, so that each key is touched once.
local adds, removes, values = {}, {}, {}

local function add(key, row)
  local list = adds[key]
  if not list then
    list = {}
    adds[key] = list
  end
  local count = #list
  list[count + 1] = row.place
  list[count + 2] = row.id
end

local function add_facet(prefix, facet, row)
  local key = 'x' .. prefix .. facet
  if not adds[key] then
    local equals = string.find(facet, '=', 1, true)
    local name = 'w' .. prefix .. string.sub(facet, 1, equals - 1)
    local list = values[name]
    if not list then
      list = {}
      values[name] = list
    end
    list[#list + 1] = '0'
    list[#list + 1] = string.sub(facet, equals + 1)
  end
  add(key, row)
end

local function remove(key, row, prefix, facet)
  local entry = removes[key]
  if not entry then
    entry = {ids = {}, prefix = prefix, facet = facet}
    removes[key] = entry
  end
  entry.ids[#entry.ids + 1] = row.id
end

local function same_list(one, other)
  if #one ~= #other then return false end
  for index = 1, #one do
    if one[index] ~= other[index] then return false end
  end
  return true
end

-- Scopes that list the record or no longer do.
local function refile_scopes(row, extra, stale)
  local old, new, stem = row.old, row.new, 'x:' .. row.kind .. ':'
  if same_list(old.s, new.s) and same_list(old.l, new.l) then return end
  local before, after = set_of(old.s, old.l), set_of(new.s, new.l)
  for scope in pairs(after) do
    if not before[scope] then
      add(stem .. scope, row)
      extra[#extra + 1] = 's:' .. scope
      extra[#extra + 1] = row.place
    end
  end
  for scope in pairs(before) do
    if not after[scope] then
      remove(stem .. scope, row)
      stale[#stale + 1] = 's:' .. scope
    end
  end
end

-- Facets, when the scopes that have them are the same as before: most lists
-- differ in one or two places only.
local function refile_changed_facets(row)
  local old, new = row.old.f, row.new.f
  local gone, come = {}, {}
  if #old == #new then
    for index = 1, #new do
      if old[index] ~= new[index] then
        gone[old[index]] = true
        come[new[index]] = true
      end
    end
    -- A list that is only in another order has nothing to change.
    for facet in pairs(come) do
      if gone[facet] then gone[facet], come[facet] = nil, nil end
    end
  else
    gone, come = set_of(old), set_of(new)
    for _, facet in ipairs(new) do
      if gone[facet] then gone[facet], come[facet] = nil, nil end
    end
  end
  for _, scope in ipairs(row.new.s) do
    local prefix = ':' .. row.kind .. ':' .. scope .. ':'
    for facet in pairs(come) do add_facet(prefix, facet, row) end
    for facet in pairs(gone) do remove('x' .. prefix .. facet, row, prefix, facet) end
  end
end

local function refile_facets(row)
  local old, new = row.old, row.new
  if same_list(old.s, new.s) then return refile_changed_facets(row) end
  local was, is = set_of(old.s), set_of(new.s)
  local before, after = set_of(old.f), set_of(new.f)
  for scope in pairs(is) do
    local prefix, had = ':' .. row.kind .. ':' .. scope .. ':', was[scope]
    for facet in pairs(after) do
      if not (had and before[facet]) then add_facet(prefix, facet, row) end
    end
  end
  for scope in pairs(was) do
    local prefix, has = ':' .. row.kind .. ':' .. scope .. ':', is[scope]
    for facet in pairs(before) do
      if not (has and after[facet]) then remove('x' .. prefix .. facet, row, prefix, facet) end
    end
  end
end

local function refile(row, extra, stale)
  local old, new = row.old, row.new
  refile_scopes(row, extra, stale)
  refile_facets(row)
  if not same_list(old.v, new.v) then
    local views = set_of(new.v)
    for _, view in ipairs(old.v) do
      if not views[view] then stale[#stale + 1] = 'v:' .. view end
    end
  end
  if new.t ~= old.t then
    if new.t then call('ZADD', 'due', new.t, row.ref) else call('ZREM', 'due', row.ref) end
  end
end

for _, row in ipairs(rows) do
  local fields, stale = {}, {}
  if row.what ~= 'deleted' then
    fields = {'g', string.format('%d', row.generation + 1), 'r', row.texts[1], 'd', row.texts[2], 's', row.place}
    for index, view in ipairs(row.views) do
      fields[#fields + 1] = 'v:' .. view
      fields[#fields + 1] = row.texts[2 + index]
    end
  end
  if not row.same then refile(row, fields, stale) end
  if row.what == 'deleted' then
    call('DEL', row.key)
    for _, pool in ipairs(row.old.m) do
      call('HDEL', 'pools', pool)
      call('DEL', 'pool:' .. pool)
    end
  else
    call('HSET', row.key, unpack(fields))
    if stale[1] then call('HDEL', row.key, unpack(stale)) end
  end
  local filed = row.what == 'deleted' and row.old or row.new
  local event = {'kind', row.kind, 'id', row.id, 'what', row.what, 'request', plan.request}
  for name, value in pairs(filed.e) do
    event[#event + 1] = name
    event[#event + 1] = value
  end
  call('XADD', 'ev', 'MAXLEN', '~', plan.keep, '*', 'project', filed.o, unpack(event))
  if filed.o ~= '' then
    call('XADD', 'ev:' .. filed.o, 'MAXLEN', '~', plan.keep_project, '*', unpack(event))
  end
end

for key, list in pairs(adds) do
  for first = 1, #list, CHUNK do
    call('ZADD', key, unpack(list, first, math.min(first + CHUNK - 1, #list)))
  end
end
for key, list in pairs(values) do
  for first = 1, #list, CHUNK do
    call('ZADD', key, unpack(list, first, math.min(first + CHUNK - 1, #list)))
  end
end
for key, entry in pairs(removes) do
  for first = 1, #entry.ids, CHUNK do
    call('ZREM', key, unpack(entry.ids, first, math.min(first + CHUNK - 1, #entry.ids)))
  end
  if entry.facet and call('EXISTS', key) == 0 then
    local equals = string.find(entry.facet, '=', 1, true)
    call('ZREM', 'w' .. entry.prefix .. string.sub(entry.facet, 1, equals - 1), string.sub(entry.facet, equals + 1))
  end
end
return answer
