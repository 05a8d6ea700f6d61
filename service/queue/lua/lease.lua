#!lua flags=allow-oom
-- Gives a worker as many jobs of its models as fit into its free slots: {id, token, record} for each.
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

local function next_of(model)
  local head = call('ZRANGE', P .. 'active:' .. model, 0, 0, 'WITHSCORES')
  local tenant, start = head[1], tonumber(head[2])
  if not tenant then return end
  local ready = ready_key(model, tenant)
  local id = call('ZPOPMIN', ready)[1]
  call('HSET', P .. 'clock:' .. model, 'now', start)
  local cost = math.max(1, tonumber(call('HGET', job_key(id), 'total_steps')))
  if call('EXISTS', ready) == 1 then
    call('ZADD', P .. 'active:' .. model, start + cost, tenant)
  else
    deactivate(model, tenant, start + cost)
  end
  return id
end

-- The nonce makes a token unique even where an epoch comes twice, after a lost write or a failover.
local function take(id)
  local job = load(id)
  local token = call('INCR', P .. 'epoch') .. '-' .. A.nonce
  call('HSETNX', job_key(id), 'started_at_ms', now)
  call('HSET', job_key(id), 'status', 'running', 'token', token, 'worker', worker)
  local attempt = call('HINCRBY', job_key(id), 'attempt', 1)
  call('SADD', P .. 'held:' .. worker, id)
  count_waiting(job.tenant, -1)
  log(id, cjson.encode({type = 'started', worker = A.worker_name, attempt = attempt}))
  if attempt == 1 then tell(id, job, 'job.started') end
  give(id, token)
  return tonumber(job.slots)
end

local models, turn, slots, ids = A.models, 1, A.slots, {}
while slots > 0 and #models > 0 do
  if turn > #models then turn = 1 end
  local id = next_of(models[turn])
  if id then
    slots = slots - take(id)
    ids[#ids + 1] = id
    turn = turn + 1
  else
    table.remove(models, turn)
  end
end
if #ids > 0 then
  call('HSET', claim, 'nonce', A.nonce, 'ids', table.concat(ids, ' '))
  call('PEXPIRE', claim, 2 * A.lease_ms)
end
return leases
