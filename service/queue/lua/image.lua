#!lua flags=allow-oom
-- Records one finished image; the first record of an index stands.
local job = load(A.id)
if not holds(job, A.token) then return 'lost' end
local field = 'image:' .. A.index
local known = call('HGET', job_key(A.id), field)
if known then return known == A.record and 'ok' or 'duplicate' end
call('HSET', job_key(A.id), field, A.record)
log(A.id, A.event)
tell(A.id, job, 'job.image')
return 'ok'
