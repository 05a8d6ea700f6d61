#!lua flags=allow-oom,no-writes
-- Estimates how many jobs leave the queue before this one; false for a job that does not wait.
local job = load(A.id)
return job.status == 'queued' and estimate(A.id, job)
