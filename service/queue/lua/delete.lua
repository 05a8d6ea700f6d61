#!lua flags=allow-oom
-- Removes a final job and what is kept of it: its record, which is returned, or its status if it is
-- not final. A call repeated after a lost reply has its first call's nonce, and gets its answer.
local id, job, gone = A.id, load(A.id), P .. 'deleted:' .. A.id
if not job.status then
  return call('HGET', gone, 'nonce') == A.nonce and {'ok', call('HGETALL', gone)} or {'none'}
end
if job.status == 'queued' or job.status == 'running' then return {job.status} end

call('RENAME', job_key(id), gone)
call('HSET', gone, 'nonce', A.nonce)
call('PEXPIRE', gone, REPEATED_MS)
call('DEL', P .. 'events:' .. id, P .. 'updates:' .. id)
forget_deliveries(id)
call('ZREM', P .. 'jobs:' .. job.tenant, id)
call('ZREM', P .. 'expiring', job.tenant .. ' ' .. id)
local idempotency = job.idempotency and P .. 'idempotency:' .. job.tenant .. ':' .. job.idempotency
if idempotency and string.match(call('GET', idempotency) or '', ' (%S+)$') == id then
  call('DEL', idempotency)
end
call('PUBLISH', P .. 'hints', id)
return {'ok', call('HGETALL', gone)}
