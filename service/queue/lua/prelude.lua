-- Shared by every transition: the loader puts this file after the transition's first line.
-- KEYS[1] is the prefix of all keys (service/queue/keys.py), ARGV[1] the arguments as JSON.
-- All times are Redis time in ms. Model and tenant names arrive quoted.

local P = KEYS[1]
local A = cjson.decode(ARGV[1])
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local UPDATES_KEPT, UPDATES_MS = 128, 300000
local EVENTS_KEPT = 1000
local BATCH = 64            -- bounds the work of one maintenance
local WAKE_TOKENS, WAKE_MS = 16, 2000
local LONGEST_LEASE_MS = 30000

local BOOKKEEPING = {
  'status', 'model', 'tenant', 'sequence', 'slots', 'token', 'given_up', 'worker',
  'cancel_requested', 'cancel_reason', 'strikes', 'max_attempts', 'retention_ms', 'idempotency',
  'step', 'total_steps',
}

local function job_key(id) return P .. 'job:' .. id end
local function ready_key(model, tenant) return P .. 'ready:' .. model .. ':' .. tenant end

-- A missing field is false.
local function load(id)
  local job = {}
  for i, value in ipairs(call('HMGET', job_key(id), unpack(BOOKKEEPING))) do
    job[BOOKKEEPING[i]] = value
  end
  return job
end

local function holds(job, token) return job.status == 'running' and job.token == token end

-- Events are numbered by their job, so that its two streams have one order.
local function next_event(id) return call('HINCRBY', job_key(id), 'events', 1) .. '-0' end

local function log(id, event_json)
  call('XADD', P .. 'events:' .. id, 'MAXLEN', EVENTS_KEPT, next_event(id), 'event', event_json)
  call('PUBLISH', P .. 'hints', id)
end

local function update(id, event_json)
  local key = P .. 'updates:' .. id
  call('XADD', key, 'MAXLEN', UPDATES_KEPT, next_event(id), 'event', event_json)
  call('PEXPIRE', key, UPDATES_MS)
  call('PUBLISH', P .. 'hints', id)
end

-- The step of a job only grows, whatever a second worker reports.
local function progress(id, job, step)
  if step <= tonumber(job.step) then return end
  call('HSET', job_key(id), 'step', step)
  update(id, cjson.encode({
    type = 'progress', step = step, total_steps = tonumber(job.total_steps),
  }))
end

local function count_waiting(tenant, change)
  for _, field in ipairs({'total', 'tenant:' .. tenant}) do
    if call('HINCRBY', P .. 'waiting', field, change) <= 0 then
      call('HDEL', P .. 'waiting', field)
    end
  end
end

-- Start-time fair queueing (Goyal, Vin and Cheng 1996): within a model the tenant with the least
-- virtual start is next; one that comes back starts at the later of the clock and its own last end.
local function activate(model, tenant)
  if call('ZSCORE', P .. 'active:' .. model, tenant) then return end
  local times = call('HMGET', P .. 'clock:' .. model, 'now', 'end:' .. tenant)
  local start = math.max(tonumber(times[1] or 0), tonumber(times[2] or 0))
  call('ZADD', P .. 'active:' .. model, start, tenant)
end

-- With its last tenant a model's clock starts anew: nobody waits, so nobody is owed anything.
local function deactivate(model, tenant, finish)
  call('ZREM', P .. 'active:' .. model, tenant)
  if call('EXISTS', P .. 'active:' .. model) == 0 then
    call('DEL', P .. 'clock:' .. model)
  else
    call('HSET', P .. 'clock:' .. model, 'end:' .. tenant, finish)
  end
end

local function offer(id, job)
  call('ZADD', ready_key(job.model, job.tenant), job.sequence, id)
  activate(job.model, job.tenant)
  local wake = P .. 'wake:' .. job.model
  call('LPUSH', wake, 1)
  call('LTRIM', wake, 0, WAKE_TOKENS - 1)
  call('PEXPIRE', wake, WAKE_MS)
end

local function leave_queue(id, job)
  count_waiting(job.tenant, -1)
  call('ZREM', P .. 'delayed', id)
  local ready = ready_key(job.model, job.tenant)
  if call('ZREM', ready, id) == 1 and call('EXISTS', ready) == 0 then
    deactivate(job.model, job.tenant, call('ZSCORE', P .. 'active:' .. job.model, job.tenant))
  end
end

local function leave_worker(id, job)
  call('ZREM', P .. 'leases', id)
  if job.worker then call('SREM', P .. 'held:' .. job.worker, id) end
end

-- The token stays: with it the owner's repeated call finds that its first one was heard.
local function conclude(id, job, status, event, ...)
  local ends = now + job.retention_ms
  call('HSET', job_key(id), 'status', status, 'finished_at_ms', now, 'expires_at_ms', ends, ...)
  log(id, cjson.encode(event))
  call('PEXPIREAT', job_key(id), ends)
  call('PEXPIREAT', P .. 'events:' .. id, ends)
  call('PEXPIRE', P .. 'updates:' .. id, math.min(UPDATES_MS, tonumber(job.retention_ms)))
  if job.idempotency then
    call('PEXPIREAT', P .. 'idempotency:' .. job.tenant .. ':' .. job.idempotency, ends)
  end
  call('ZADD', P .. 'expiring', ends, job.tenant .. ' ' .. id)
end

local function conclude_canceled(id, job, reason)
  conclude(id, job, 'canceled', {type = 'canceled', reason = reason}, 'cancel_reason', reason)
end

local function conclude_failed(id, job, failure)
  local event = {
    type = 'failed', code = failure.code, detail = failure.detail, retryable = failure.retryable,
  }
  conclude(id, job, 'failed', event, 'failure', cjson.encode(failure))
end

local function requeue(id, job, reason, delay_ms)
  call('HSET', job_key(id), 'status', 'queued')
  call('HDEL', job_key(id), 'token', 'worker')
  count_waiting(job.tenant, 1)
  log(id, cjson.encode({type = 'queued', reason = reason}))
  if delay_ms > 0 then
    call('ZADD', P .. 'delayed', now + delay_ms, id)
  else
    offer(id, job)
  end
end

-- A strike is a lease that ended badly; a job that has no more attempts fails with `failure`.
local function strike(id, job, failure, reason, delay_ms)
  if call('HINCRBY', job_key(id), 'strikes', 1) >= tonumber(job.max_attempts) then
    conclude_failed(id, job, failure)
  else
    requeue(id, job, reason, delay_ms)
  end
end

-- The owner of a running job is gone, or was silent for too long.
local function lose(id)
  local job = load(id)
  leave_worker(id, job)
  if job.status ~= 'running' then return end
  if job.cancel_requested then return conclude_canceled(id, job, job.cancel_reason) end
  local failure = {
    code = 'worker_lost', retryable = true,
    detail = 'The worker was lost on every one of ' .. job.max_attempts .. ' attempts',
  }
  strike(id, job, failure, 'worker_lost', 0)
end

-- While Redis could not be reached, every lease ran out though its owner may live. After such a gap
-- owners get a grace to renew. A second gap soon after it is not believed, so that rare callers
-- can't put off the end of a dead worker's leases for ever.
local function touch()
  local alive = tonumber(call('GET', P .. 'alive') or now)
  local grace = tonumber(call('GET', P .. 'grace') or 0)
  local gap = A.lease_ms / 2
  call('SET', P .. 'alive', now)
  if now - alive > gap and now > grace + gap then call('SET', P .. 'grace', now + A.grace_ms) end
end

local function each_due(key, act)
  for _, member in ipairs(call('ZRANGEBYSCORE', P .. key, '-inf', now, 'LIMIT', 0, BATCH)) do
    call('ZREM', P .. key, member)
    act(member)
  end
end

local function clamp_leases()
  -- The clock of the server went back: without this a lease would outlive its owner by the jump.
  local latest = now + math.max(LONGEST_LEASE_MS, 2 * A.lease_ms)
  local key = P .. 'leases'
  for _, id in ipairs(call('ZRANGEBYSCORE', key, '(' .. latest, '+inf', 'LIMIT', 0, BATCH)) do
    call('ZADD', key, latest, id)
  end
end

local function forget(member)
  local tenant, id = string.match(member, '^(%S+) (%S+)$')
  call('ZREM', P .. 'jobs:' .. tenant, id)
end

-- Whatever is due by the clock. Leases and the API's pulse both come here, so that lost jobs are
-- offered again although no worker lives.
local function maintain()
  touch()
  clamp_leases()
  each_due('delayed', function(id) offer(id, load(id)) end)
  each_due('expiring', forget)
  if now >= tonumber(call('GET', P .. 'grace') or 0) then each_due('leases', lose) end
  call('ZREMRANGEBYSCORE', P .. 'workers', '-inf', now - A.presence_ms)
end
