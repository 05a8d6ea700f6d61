-- What is to be told to clients' own servers; a sender takes it from here. A delivery is one event
-- on its way to one server. A lane is one tenant's deliveries to one host: `webhooks:<lane>` has
-- them by their next attempt, `webhooks` has the lanes by the next attempt of any of theirs.

local PROGRESS_EVERY_MS = 500
local WAITING_MS = 7 * 86400000     -- nobody could send for so long: forget it
local LOGGED_MS = 3 * 86400000      -- how long a delivery is known after its last attempt, at least
local GONE_MS = 30 * 86400000

local DELIVERY = {
  'job', 'tenant', 'lane', 'url', 'event', 'state', 'claim', 'tries', 'logged_ms',
}

local function delivery_key(delivery) return P .. 'delivery:' .. delivery end
local function told_key(delivery) return P .. 'told:' .. delivery end
local function gone_key(tenant, url) return P .. 'gone:' .. tenant .. ':' .. redis.sha1hex(url) end

-- A missing field is false.
local function load_delivery(delivery)
  local found = {}
  for i, value in ipairs(call('HMGET', delivery_key(delivery), unpack(DELIVERY))) do
    found[DELIVERY[i]] = value
  end
  return found
end

-- Sets when a lane is next looked at.
local function line_up(lane)
  local head = call('ZRANGE', P .. 'webhooks:' .. lane, 0, 0, 'WITHSCORES')
  if not head[1] then return call('ZREM', P .. 'webhooks', lane) end
  local throttled = tonumber(call('GET', P .. 'throttled:' .. lane) or 0)
  call('ZADD', P .. 'webhooks', math.max(tonumber(head[2]), throttled), lane)
end

local function schedule_delivery(delivery, lane, due)
  local key = P .. 'webhooks:' .. lane
  call('ZADD', key, due, delivery)
  call('PEXPIRE', key, WAITING_MS)
  line_up(lane)
  call('PUBLISH', P .. 'hints', 'webhooks')
end

local function keep_delivery(delivery, job, for_ms)
  call('PEXPIRE', delivery_key(delivery), for_ms)
  call('PEXPIRE', told_key(delivery), for_ms)
  call('PEXPIRE', P .. 'deliveries:' .. job, math.max(for_ms, WAITING_MS))
end

local function forget_delivery(delivery, record)
  call('DEL', delivery_key(delivery), told_key(delivery))
  call('LREM', P .. 'deliveries:' .. record.job, 1, delivery)
  call('ZREM', P .. 'webhooks:' .. record.lane, delivery)
  line_up(record.lane)
end

-- For a job that is removed: what it was about must not outlive it here.
local function forget_deliveries(id)
  for _, delivery in ipairs(call('LRANGE', P .. 'deliveries:' .. id, 0, -1)) do
    local record = load_delivery(delivery)
    if record.job then forget_delivery(delivery, record) end
  end
  call('DEL', P .. 'deliveries:' .. id)
end

-- Whether a job's server has said that it wants no more.
local function is_gone(id, job)
  return call('EXISTS', gone_key(job.tenant, call('HGET', job_key(id), 'webhook_url'))) == 1
end

-- The job's record is copied as it is now, so that its server is told of this moment, whenever the
-- sender comes to it, and even if the job has been forgotten by then.
local function put_delivery(id, job, event, due)
  local delivery = 'msg_' .. string.sub(id, 5) .. '_' .. call('HINCRBY', job_key(id), 'deliveries', 1)
  local target = call('HMGET', job_key(id), 'webhook_url', 'webhook_host', 'webhook_dialect')
  local lane = job.tenant .. ':' .. target[2]
  local gone = is_gone(id, job)
  call('HSET', delivery_key(delivery), 'job', id, 'tenant', job.tenant, 'lane', lane,
    'url', target[1], 'dialect', target[3], 'event', event, 'created_at_ms', now,
    'state', gone and 'disabled' or 'pending', 'tries', 0, 'attempts', 0,
    'logged_ms', math.max(LOGGED_MS, tonumber(job.retention_ms)))
  call('COPY', job_key(id), told_key(delivery))
  call('RPUSH', P .. 'deliveries:' .. id, delivery)
  keep_delivery(delivery, id, math.max(WAITING_MS, tonumber(job.retention_ms)))
  if not gone then schedule_delivery(delivery, lane, due) end
  return delivery
end

-- The newest delivery of progress, and whether it still waits for its one attempt.
local function progress_delivery(id)
  local delivery = call('HGET', job_key(id), 'progress_delivery')
  local record = delivery and load_delivery(delivery)
  if not record or not record.job then return end
  return delivery, record, record.state == 'pending' and record.tries == '0' and not record.claim
end

-- Progress is told at most so often; what waits meanwhile tells of the newest step.
local function tell_progress(id, job)
  if is_gone(id, job) then return end
  local last, record, waits = progress_delivery(id)
  if waits then
    call('COPY', job_key(id), told_key(last), 'REPLACE')
    return keep_delivery(last, id, WAITING_MS)
  end
  if last and record.state ~= 'pending' then forget_delivery(last, record) end
  local due = tonumber(call('HGET', job_key(id), 'progress_due') or 0) + PROGRESS_EVERY_MS
  local delivery = put_delivery(id, job, 'job.progress', math.max(now, due))
  call('HSET', job_key(id), 'progress_delivery', delivery, 'progress_due', math.max(now, due))
end

-- Puts an event of a job into the outbox, if its webhook asks for it.
local function tell(id, job, event)
  if not job.webhook_events then return end
  if event == 'job.succeeded' or event == 'job.failed' or event == 'job.canceled' then
    local last, record, waits = progress_delivery(id)
    if waits then forget_delivery(last, record) end
  end
  if not string.find(' ' .. job.webhook_events .. ' ', ' ' .. event .. ' ', 1, true) then return end
  if event == 'job.progress' then return tell_progress(id, job) end
  put_delivery(id, job, event, now)
end
