-- Records by id or by unique name: ARGV is kind, "id" or "name", value, for each
-- in turn.  Replies generation and record for each; nil for what is not there.

local reply = {}
for index = 1, #ARGV, 3 do
  local kind, value = ARGV[index], ARGV[index + 2]
  local ref = kind .. ':' .. value
  if ARGV[index + 1] == 'name' then
    ref = redis.call('HGET', 'u', value)
    if ref and string.sub(ref, 1, #kind + 1) ~= kind .. ':' then ref = false end
  end
  local found = ref and redis.call('HMGET', 'o:' .. ref, 'g', 'r') or {false, false}
  reply[#reply + 1] = found[1]
  reply[#reply + 1] = found[2]
end
return reply
