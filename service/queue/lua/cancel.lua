#!lua flags=allow-oom
-- A queued job ends at once; the owner of a running one hears of it; a final one stays as it is.
stop(A.id, load(A.id), A.reason)
return call('HGETALL', job_key(A.id))
