#!lua flags=allow-oom
-- Gives a worker as many jobs of its models as fit into its free slots, and into those that it keeps
-- for newcomers: {id, token, record} for each.
local leases, worker = {}, A.worker
local claim = P .. 'claim:' .. worker

local function give(id, token)
  call('ZADD', P .. 'leases', now + A.lease_ms, id)
  leases[#leases + 1] = {id, token, call('HGETALL', job_key(id))}
end

-- The same nonce is the same call, whose reply was lost: repeat the answer, lease nothing new.
local last = call('HMGET', claim, 'nonce', 'ids')
if last[1] == A.nonce then
  for id in string.gmatch(last[2], '%S+') do
    local job = load(id)
    if job.status == 'running' and string.sub(job.token, -#A.nonce) == A.nonce then
      give(id, job.token)
    end
  end
  return leases
end

maintain()

local looks, ids = LOOKS, {}
local busy = {}
for _, tenant in ipairs(A.busy) do busy[tenant] = true end

-- Takes a tenant's next job out of the queue; nil when it may have none, or its time was over.
local function next_of(model, tenant, start)
  if at_cap(tenant) then
    looks = looks - 1
    return park(model, tenant, start)
  end
  local ready = ready_key(model, tenant)
  local id = call('ZPOPMIN', ready)[1]
  local job = load(id)
  local reason = reason_to_stop(job)
  local cost = reason and 0 or tonumber(job.work or 1) / weight_of(tenant)
  if call('EXISTS', ready) == 1 then
    call('ZADD', P .. 'active:' .. model, start + cost, tenant)
  else
    deactivate(model, tenant, start + cost)
  end
  if reason then
    looks = looks - 1
    return stop(id, job, reason)
  end
  return id, job
end

-- The nonce makes a token unique even where an epoch comes twice, after a lost write or a failover.
local function take(id, job)
  local token = call('INCR', P .. 'epoch') .. '-' .. A.nonce
  call('HSETNX', job_key(id), 'started_at_ms', now)
  call('HSET', job_key(id), 'status', 'running', 'token', token, 'worker', worker)
  local attempt = call('HINCRBY', job_key(id), 'attempt', 1)
  call('SADD', P .. 'held:' .. worker, id)
  count('waiting', job, -1)
  count('running', job, 1)
  log(id, cjson.encode({type = 'started', worker = A.worker_name, attempt = attempt}))
  if attempt == 1 then tell(id, job, 'job.started') end
  give(id, token)
  busy[job.tenant] = true
  ids[#ids + 1] = id
  return tonumber(job.slots)
end

-- The models in turn, and of each the tenant with the least virtual start.
local function fill(slots)
  local models, turn = {unpack(A.models)}, 1
  while slots > 0 and #models > 0 and looks > 0 do
    if turn > #models then turn = 1 end
    local model = models[turn]
    local head = call('ZRANGE', P .. 'active:' .. model, 0, 0, 'WITHSCORES')
    if head[1] then
      local start = tonumber(head[2])
      advance(model, start)
      local id, job = next_of(model, head[1], start)
      if id then
        slots = slots - take(id, job)
        turn = turn + 1
      end
    else
      table.remove(models, turn)
    end
  end
end

-- One job for each tenant that has none on the worker. The clock stays: others are owed their turn.
local function admit(model, slots)
  local last = #A.busy + #ids + slots - 1
  local tenants = call('ZRANGE', P .. 'active:' .. model, 0, last, 'WITHSCORES')
  for i = 1, #tenants, 2 do
    if slots <= 0 or looks <= 0 then return slots end
    if not busy[tenants[i]] then
      local id, job = next_of(model, tenants[i], tonumber(tenants[i + 1]))
      if id then slots = slots - take(id, job) end
    end
  end
  return slots
end

fill(A.slots)
local reserve = A.reserve
for _, model in ipairs(A.models) do
  if reserve > 0 then reserve = admit(model, reserve) end
end
if #ids > 0 then
  call('HSET', claim, 'nonce', A.nonce, 'ids', table.concat(ids, ' '))
  call('PEXPIRE', claim, 2 * A.lease_ms)
end
return leases
