#!lua flags=allow-oom,no-writes
-- A job's deliveries, oldest first: {id, all fields but the body, ms of the next attempt} for each.
local found = {}
for _, delivery in ipairs(call('LRANGE', P .. 'deliveries:' .. A.id, 0, -1)) do
  local all, shown = call('HGETALL', delivery_key(delivery)), {}
  local lane
  for i = 1, #all, 2 do
    if all[i] == 'lane' then lane = all[i + 1] end
    if all[i] ~= 'body' then
      shown[#shown + 1] = all[i]
      shown[#shown + 1] = all[i + 1]
    end
  end
  if lane then
    local due = call('ZSCORE', P .. 'webhooks:' .. lane, delivery)
    found[#found + 1] = {delivery, shown, due}
  end
end
return found
