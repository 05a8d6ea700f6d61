#!lua flags=allow-oom
-- A queued job ends at once; the owner of a running one hears of it; a final one stays as it is.
local id, job = A.id, load(A.id)
if job.status == 'queued' then
  leave_queue(id, job)
  conclude_canceled(id, job, A.reason)
elseif job.status == 'running' and not job.cancel_requested then
  call('HSET', job_key(id), 'cancel_requested', 1, 'cancel_reason', A.reason)
  call('PUBLISH', P .. 'hints', id)
end
return call('HGETALL', job_key(id))
