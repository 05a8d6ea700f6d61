-- Start-time fair queueing (Goyal, Vin and Cheng 1996): within a model the tenant with the least
-- virtual start is next, and a job moves its tenant's start on by its work over the tenant's weight.
-- One that comes back starts at the later of the clock and its own last end.
local function weight_of(tenant)
  return tonumber(call('HGET', P .. 'tenant:' .. tenant, 'weight') or 1)
end

local function at_cap(tenant)
  local cap = call('HGET', P .. 'tenant:' .. tenant, 'concurrency')
  local running = cap and call('HGET', P .. 'running', 'tenant:' .. tenant)
  return cap and tonumber(running or 0) >= tonumber(cap)
end

local function virtual_time(model) return tonumber(call('HGET', P .. 'clock:' .. model, 'now') or 0) end

local function virtual_start(model, tenant)
  local start = call('ZSCORE', P .. 'active:' .. model, tenant)
    or call('ZSCORE', P .. 'parked:' .. model, tenant)
    or call('ZSCORE', P .. 'ends:' .. model, tenant)
  return math.max(virtual_time(model), tonumber(start or 0))
end

-- An end that the clock has passed says no more than the clock.
local function advance(model, start)
  call('HSET', P .. 'clock:' .. model, 'now', start)
  call('ZREMRANGEBYSCORE', P .. 'ends:' .. model, '-inf', start)
end

-- A token wakes one worker that has room; all others hear whose job it is.
local function wake(model, tenant)
  local key = P .. 'wake:' .. model
  call('LPUSH', key, 1)
  call('LTRIM', key, 0, WAKE_TOKENS - 1)
  call('PEXPIRE', key, WAKE_MS)
  call('PUBLISH', P .. 'offers:' .. model, tenant)
end

local function activate(model, tenant)
  if call('ZSCORE', P .. 'active:' .. model, tenant) then return end
  if call('ZSCORE', P .. 'parked:' .. model, tenant) then return end
  call('ZADD', P .. 'active:' .. model, virtual_start(model, tenant), tenant)
end

-- With its last tenant a model's clock starts anew: nobody waits, so nobody is owed anything.
local function deactivate(model, tenant, finish)
  local active, parked = P .. 'active:' .. model, P .. 'parked:' .. model
  call('ZREM', active, tenant)
  if call('ZREM', parked, tenant) == 1 then call('SREM', P .. 'capped:' .. tenant, model) end
  if call('EXISTS', active, parked) == 0 then
    call('DEL', P .. 'clock:' .. model, P .. 'ends:' .. model)
  else
    call('ZADD', P .. 'ends:' .. model, finish, tenant)
  end
end

-- A tenant at its cap steps aside with its virtual start, until one of its leases ends.
local function park(model, tenant, start)
  call('ZREM', P .. 'active:' .. model, tenant)
  call('ZADD', P .. 'parked:' .. model, start, tenant)
  call('SADD', P .. 'capped:' .. tenant, model)
end

local function unpark_if_below_cap(tenant)
  local models = call('SMEMBERS', P .. 'capped:' .. tenant)
  if #models == 0 or at_cap(tenant) then return end
  for _, model in ipairs(models) do
    call('ZADD', P .. 'active:' .. model, virtual_start(model, tenant), tenant)
    call('ZREM', P .. 'parked:' .. model, tenant)
    wake(model, tenant)
  end
  call('DEL', P .. 'capped:' .. tenant)
end

-- A job that comes back keeps its place; one of an older release has its number instead.
local function place_of(job) return job.place or job.sequence end

local function offer(id, job)
  call('ZADD', ready_key(job.model, job.tenant), place_of(job), id)
  activate(job.model, job.tenant)
  wake(job.model, job.tenant)
end

local function leave_queue(id, job)
  count('waiting', job, -1)
  call('ZREM', P .. 'delayed', id)
  local ready = ready_key(job.model, job.tenant)
  if call('ZREM', ready, id) == 1 and call('EXISTS', ready) == 0 then
    deactivate(job.model, job.tenant, virtual_start(job.model, job.tenant))
  end
end
