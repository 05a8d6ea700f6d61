#!lua flags=allow-oom
-- A worker gives up a job: for good, or, with a retry delay, until the delay is over.
local id, job = A.id, load(A.id)
if job.given_up == A.token then return 'ok' end
if job.token ~= A.token then return 'lost' end
if job.status == 'failed' then return 'ok' end
if job.status == 'canceled' then return 'canceled' end
if job.status ~= 'running' then return 'lost' end
leave_worker(id, job)
local reason = reason_to_stop(job)
if reason then
  conclude_canceled(id, job, reason)
  return 'canceled'
end
if A.retry_delay_ms then
  call('HSET', job_key(id), 'given_up', A.token)
  strike(id, job, A.failure, A.failure.code, A.retry_delay_ms)
else
  conclude_failed(id, job, A.failure)
end
return 'ok'
