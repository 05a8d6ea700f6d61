-- The hashes `waiting` and `running` count jobs and their work: `total` and `work`, `tenant:<tenant>`
-- (jobs) and `work:<model>`. A counter that comes to nothing goes.
local function count(counters, job, sign)
  local key, work = P .. counters, sign * tonumber(job.work or 1)
  if call('HINCRBY', key, 'total', sign) <= 0 then return call('DEL', key) end
  local changes = {work = work, ['tenant:' .. job.tenant] = sign, ['work:' .. job.model] = work}
  for field, change in pairs(changes) do
    if call('HINCRBY', key, field, change) <= 0 then call('HDEL', key, field) end
  end
end
