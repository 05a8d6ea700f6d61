local function count_waiting(tenant, change)
  for _, field in ipairs({'total', 'tenant:' .. tenant}) do
    if call('HINCRBY', P .. 'waiting', field, change) <= 0 then
      call('HDEL', P .. 'waiting', field)
    end
  end
end

-- Start-time fair queueing (Goyal, Vin and Cheng 1996): within a model the tenant with the least
-- virtual start is next; one that comes back starts at the later of the clock and its own last end.
local function activate(model, tenant)
  if call('ZSCORE', P .. 'active:' .. model, tenant) then return end
  local times = call('HMGET', P .. 'clock:' .. model, 'now', 'end:' .. tenant)
  local start = math.max(tonumber(times[1] or 0), tonumber(times[2] or 0))
  call('ZADD', P .. 'active:' .. model, start, tenant)
end

-- With its last tenant a model's clock starts anew: nobody waits, so nobody is owed anything.
local function deactivate(model, tenant, finish)
  call('ZREM', P .. 'active:' .. model, tenant)
  if call('EXISTS', P .. 'active:' .. model) == 0 then
    call('DEL', P .. 'clock:' .. model)
  else
    call('HSET', P .. 'clock:' .. model, 'end:' .. tenant, finish)
  end
end

local function offer(id, job)
  call('ZADD', ready_key(job.model, job.tenant), job.sequence, id)
  activate(job.model, job.tenant)
  local wake = P .. 'wake:' .. job.model
  call('LPUSH', wake, 1)
  call('LTRIM', wake, 0, WAKE_TOKENS - 1)
  call('PEXPIRE', wake, WAKE_MS)
  call('PUBLISH', P .. 'offers:' .. job.model, job.tenant)
end

local function leave_queue(id, job)
  count_waiting(job.tenant, -1)
  call('ZREM', P .. 'delayed', id)
  local ready = ready_key(job.model, job.tenant)
  if call('ZREM', ready, id) == 1 and call('EXISTS', ready) == 0 then
    deactivate(job.model, job.tenant, call('ZSCORE', P .. 'active:' .. job.model, job.tenant))
  end
end
