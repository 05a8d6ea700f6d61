#!lua flags=allow-oom
-- Shows a preview or progress of a job to its followers; repeated or older ones are dropped.
local job = load(A.id)
if not holds(job, A.token) then return 'lost' end
if A.preview then
  local field = 'preview:' .. A.preview
  if A.step > tonumber(call('HGET', job_key(A.id), field) or -1) then
    call('HSET', job_key(A.id), field, A.step)
    update(A.id, A.event)
  end
else
  progress(A.id, job, A.step)
end
return 'ok'
