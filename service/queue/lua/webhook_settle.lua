#!lua flags=allow-oom
-- Ends a sender's claim: with an attempt and what comes of it, or, without one, to hand it back.
local delivery, record = A.id, load_delivery(A.id)
if not record.claim or record.claim ~= A.token then return 'lost' end
call('HDEL', delivery_key(delivery), 'claim')
if A.attempt then
  local number = call('HINCRBY', delivery_key(delivery), 'attempts', 1)
  call('HSET', delivery_key(delivery), 'attempt:' .. number, A.attempt)
  call('HINCRBY', delivery_key(delivery), 'tries', 1)
end
if A.throttle_ms then
  call('SET', P .. 'throttled:' .. record.lane, now + A.throttle_ms, 'PX', A.throttle_ms)
end
if A.state == 'pending' then
  keep_delivery(delivery, record.job, math.max(WAITING_MS, tonumber(record.logged_ms)))
  schedule_delivery(delivery, record.lane, now + A.retry_ms)
  return 'ok'
end
call('HSET', delivery_key(delivery), 'state', A.state)
if A.state == 'disabled' then
  call('SET', gone_key(record.tenant, record.url), now, 'PX', GONE_MS)
end
call('ZREM', P .. 'webhooks:' .. record.lane, delivery)
line_up(record.lane)
keep_delivery(delivery, record.job, tonumber(record.logged_ms))
-- Of a job's progress the log has the newest delivery only.
local newest = call('HGET', job_key(record.job), 'progress_delivery')
if record.event == 'job.progress' and newest ~= delivery then forget_delivery(delivery, record) end
return 'ok'
