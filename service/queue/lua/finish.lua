#!lua flags=allow-oom
-- Ends a job whose images are all stored. One that must stop is canceled instead.
local id, job = A.id, load(A.id)
if job.token ~= A.token then return 'lost' end
if job.status == 'succeeded' then return 'ok' end
if job.status == 'canceled' then return 'canceled' end
if job.status ~= 'running' then return 'lost' end
leave_worker(id, job)
local reason = reason_to_stop(job)
if reason then
  conclude_canceled(id, job, reason)
  return 'canceled'
end
progress(id, job, tonumber(job.total_steps))
conclude(id, job, 'succeeded', {type = 'succeeded'})
return 'ok'
