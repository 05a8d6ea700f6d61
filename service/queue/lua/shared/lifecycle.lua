-- The step of a job only grows, whatever a second worker reports.
local function progress(id, job, step)
  if step <= tonumber(job.step) then return end
  call('HSET', job_key(id), 'step', step)
  update(id, cjson.encode({
    type = 'progress', step = step, total_steps = tonumber(job.total_steps),
  }))
  tell(id, job, 'job.progress')
end

local function leave_worker(id, job)
  call('ZREM', P .. 'leases', id)
  if job.worker then call('SREM', P .. 'held:' .. job.worker, id) end
  if job.status ~= 'running' then return end
  count('running', job, -1)
  unpark_if_below_cap(job.tenant)
end

local function overdue(job) return job.deadline_at_ms and now >= tonumber(job.deadline_at_ms) end

-- Why a job must stop, if it must.
local function reason_to_stop(job)
  if job.cancel_requested then return job.cancel_reason end
  if not overdue(job) then return end
  if job.attempt == '0' then return 'the deadline passed before it was started' end
  return 'the deadline passed'
end

-- The owner of a running job hears of it with its next renewal.
local function ask_to_stop(id, job, reason)
  if job.cancel_requested then return end
  job.cancel_requested, job.cancel_reason = '1', reason
  call('HSET', job_key(id), 'cancel_requested', 1, 'cancel_reason', reason)
  call('PUBLISH', P .. 'hints', id)
end

-- The token stays: with it the owner's repeated call finds that its first one was heard.
local function conclude(id, job, status, event, ...)
  local ends = now + job.retention_ms
  call('HSET', job_key(id), 'status', status, 'finished_at_ms', now, 'expires_at_ms', ends, ...)
  log(id, cjson.encode(event))
  tell(id, job, 'job.' .. status)
  call('PEXPIREAT', job_key(id), ends)
  call('PEXPIREAT', P .. 'events:' .. id, ends)
  call('PEXPIRE', P .. 'updates:' .. id, math.min(UPDATES_MS, tonumber(job.retention_ms)))
  if job.idempotency then
    call('PEXPIREAT', P .. 'idempotency:' .. job.tenant .. ':' .. job.idempotency, ends)
  end
  call('ZADD', P .. 'expiring', ends, job.tenant .. ' ' .. id)
  if job.deadline_at_ms then call('ZREM', P .. 'deadlines', id) end
end

local function conclude_canceled(id, job, reason)
  conclude(id, job, 'canceled', {type = 'canceled', reason = reason}, 'cancel_reason', reason)
end

-- A queued job ends at once, a running one when its owner has heard of it.
local function stop(id, job, reason)
  if job.status == 'queued' then
    leave_queue(id, job)
    conclude_canceled(id, job, reason)
  elseif job.status == 'running' then
    ask_to_stop(id, job, reason)
  end
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
  count('waiting', job, 1)
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
  local reason = reason_to_stop(job)
  if reason then return conclude_canceled(id, job, reason) end
  local failure = {
    code = 'worker_lost', retryable = true,
    detail = 'The worker was lost on every one of ' .. job.max_attempts .. ' attempts',
  }
  strike(id, job, failure, 'worker_lost', 0)
end
