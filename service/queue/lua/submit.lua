#!lua
-- Accepts a job, or answers with the one an idempotency key already stands for: its record, or for a
-- new one what its client does not know of it; whether it is a replay, what is left of the quota, and
-- how many jobs and how much work go before it.
-- The only transition without allow-oom: a full Redis refuses it whole, before it wrote anything.
local id, tenant = A.id, A.tenant

local quota = A.quota and P .. 'quota:' .. A.quota.key .. ':' .. math.floor(now / A.quota.window_ms)
local function left_of_quota()
  return quota and math.max(0, A.quota.images - tonumber(call('GET', quota) or 0))
end

local function accepted(accepted_id, job, replayed, record)
  record = record or call('HGETALL', job_key(accepted_id))
  return {'ok', accepted_id, record, replayed, left_of_quota() or false, standing(accepted_id, job)}
end

local idempotency = A.idempotency and P .. 'idempotency:' .. tenant .. ':' .. A.idempotency
if idempotency then
  local fingerprint, known = string.match(call('GET', idempotency) or '', '^(%S+) (%S+)$')
  if known and call('EXISTS', job_key(known)) == 1 then
    if fingerprint ~= A.fingerprint then return {'conflict'} end
    return accepted(known, load(known), 1)
  end
end
-- The client names the job, so a call repeated after a lost reply finds what it did.
if call('EXISTS', job_key(id)) == 1 then return accepted(id, load(id), 0) end

local waiting = call('HMGET', P .. 'waiting', 'total', 'work', 'tenant:' .. tenant)
if tonumber(waiting[1] or 0) >= A.max_queued then return {'full', waiting[2]} end
if tonumber(waiting[3] or 0) >= A.max_queued_per_tenant then return {'tenant_full', waiting[2]} end
if quota and left_of_quota() < A.images then
  return {'quota', left_of_quota(), A.quota.window_ms - now % A.quota.window_ms}
end

-- Jobs of one tenant leave by their time of submission, which a priority shifts. The last place
-- given is remembered: places are told apart within a millisecond, and when the clock goes back.
local place = math.max(tonumber(call('GET', P .. 'place') or 0) + 1, now * 1024)
local job = {
  status = 'queued', model = A.model, tenant = tenant, work = A.fields.work,
  place = string.format('%.0f', place + 1024 * A.shift_ms),
}
if A.most_work_before then
  local _, before = standing(id, job)
  if before > A.most_work_before then return {'late', before} end
end

call('SET', P .. 'place', place)
local fields = {
  'status', job.status, 'created_at_ms', now, 'place', job.place,
}
for name, value in pairs(A.fields) do
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end
local times = {'created_at_ms', tostring(now)}
if A.timeout_ms then
  times[3], times[4] = 'deadline_at_ms', tostring(now + A.timeout_ms)
  fields[#fields + 1], fields[#fields + 2] = times[3], times[4]
  call('ZADD', P .. 'deadlines', now + A.timeout_ms, id)
end
call('HSET', job_key(id), unpack(fields))
call('ZADD', P .. 'jobs:' .. tenant, 0, id)
if quota then
  call('INCRBY', quota, A.images)
  call('PEXPIREAT', quota, now - now % A.quota.window_ms + A.quota.window_ms)
end
if idempotency then call('SET', idempotency, A.fingerprint .. ' ' .. id) end
count('waiting', job, 1)
-- Nobody watches a job before it is accepted, so no process is woken.
record(id, cjson.encode({type = 'queued', reason = cjson.null}))
offer(id, job)
return accepted(id, job, 0, times)
