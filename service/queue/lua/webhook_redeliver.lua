#!lua flags=allow-oom
-- Sends a delivery again at once, from the start of the schedule; one that is being sent goes on.
local delivery, record = A.id, load_delivery(A.id)
if record.job ~= A.job or record.tenant ~= A.tenant then return 'unknown' end
if record.claim then return 'ok' end
call('DEL', gone_key(record.tenant, record.url), P .. 'throttled:' .. record.lane)
call('HSET', delivery_key(delivery), 'state', 'pending', 'tries', 0)
keep_delivery(delivery, record.job, math.max(WAITING_MS, tonumber(record.logged_ms)))
schedule_delivery(delivery, record.lane, now)
return 'ok'
