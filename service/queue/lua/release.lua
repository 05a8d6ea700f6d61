#!lua flags=allow-oom
-- A worker hands a job back in good order, which costs the job no attempt.
local id, job = A.id, load(A.id)
if job.given_up == A.token then return 'ok' end
if job.token ~= A.token then return 'lost' end
if job.status == 'canceled' then return 'canceled' end
if job.status ~= 'running' then return 'lost' end
leave_worker(id, job)
local reason = reason_to_stop(job)
if reason then
  conclude_canceled(id, job, reason)
  return 'canceled'
end
call('HSET', job_key(id), 'given_up', A.token)
requeue(id, job, 'released', 0)
return 'ok'
