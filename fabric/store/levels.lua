-- How full every pool is: pool, free members, held members, for each in turn.

local reply = {}
for _, pool in ipairs(redis.call('HKEYS', 'pools')) do
  reply[#reply + 1] = pool
  reply[#reply + 1] = redis.call('SCARD', 'pool:' .. pool)
  reply[#reply + 1] = redis.call('HLEN', 'held:' .. pool)
end
return reply
