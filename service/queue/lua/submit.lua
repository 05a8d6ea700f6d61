#!lua
-- Accepts a job, or answers with the one an idempotency key already stands for.
-- The only transition without allow-oom: a full Redis refuses it whole, before it wrote anything.
local id, tenant = A.id, A.tenant

local function accepted(job, replayed)
  return {'ok', job, call('HGETALL', job_key(job)), replayed}
end

local idempotency = A.idempotency and P .. 'idempotency:' .. tenant .. ':' .. A.idempotency
if idempotency then
  local fingerprint, known = string.match(call('GET', idempotency) or '', '^(%S+) (%S+)$')
  if known and call('EXISTS', job_key(known)) == 1 then
    if fingerprint ~= A.fingerprint then return {'conflict'} end
    return accepted(known, 1)
  end
end
-- The client names the job, so a call repeated after a lost reply finds what it did.
if call('EXISTS', job_key(id)) == 1 then return accepted(id, 0) end

local waiting = call('HMGET', P .. 'waiting', 'total', 'tenant:' .. tenant)
if tonumber(waiting[1] or 0) >= A.max_queued then return {'full'} end
if tonumber(waiting[2] or 0) >= A.max_queued_per_tenant then return {'tenant_full'} end

local job = {model = A.model, tenant = tenant, sequence = call('INCR', P .. 'sequence')}
local fields = {}
for name, value in pairs(A.fields) do
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end
call('HSET', job_key(id), unpack(fields))
call('HSET', job_key(id), 'status', 'queued', 'created_at_ms', now, 'sequence', job.sequence)
call('ZADD', P .. 'jobs:' .. tenant, 0, id)
if idempotency then call('SET', idempotency, A.fingerprint .. ' ' .. id) end
count_waiting(tenant, 1)
log(id, cjson.encode({type = 'queued', reason = cjson.null}))
offer(id, job)
return accepted(id, 0)
