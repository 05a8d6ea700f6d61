-- How many jobs leave the queue before a waiting one, if every job of its model cost as much as it:
-- its own tenant's before it, and of each other tenant those whose virtual start is earlier. Of many
-- tenants only the first few are looked at, and stand for the others that go before.
local function estimate(id, job)
  local model, tenant, active = job.model, job.tenant, P .. 'active:' .. job.model
  local ready = ready_key(model, tenant)
  local rank = call('ZRANK', ready, id) or call('ZCOUNT', ready, '-inf', '(' .. place_of(job))
  local work = tonumber(job.work or 1)
  local start = virtual_start(model, tenant) + rank * work / weight_of(tenant)

  local looked, found = 0, 0
  local sample = call('ZRANGE', active, 0, SAMPLE - 1, 'WITHSCORES')
  for i = 1, #sample, 2 do
    local other, lead = sample[i], start - tonumber(sample[i + 1])
    if other ~= tenant and (lead > 0 or lead == 0 and other < tenant) then
      local rounds = lead * weight_of(other) / work
      local turns = other < tenant and math.floor(rounds) + 1 or math.ceil(rounds)
      looked, found = looked + 1, found + math.min(turns, call('ZCARD', ready_key(model, other)))
    end
  end
  if looked > 0 and #sample == 2 * SAMPLE then
    local mine = rank == 0 and call('ZRANK', active, tenant)
    local before = mine or call('ZCOUNT', active, '-inf', start) - 1
    found = math.floor(found * math.max(1, before / looked) + 0.5)
  end
  return rank + found
end

-- The work that is done before a waiting job: of so many jobs as the mean of all that wait, though
-- no more than waits for its model, and half of what runs, of which some is done.
local function work_before(job, position)
  local waiting = call('HMGET', P .. 'waiting', 'total', 'work', 'work:' .. job.model)
  local mean = tonumber(waiting[2] or 0) / math.max(1, tonumber(waiting[1] or 0))
  local running = tonumber(call('HGET', P .. 'running', 'work:' .. job.model) or 0)
  return math.floor(math.min(position * mean, tonumber(waiting[3] or 0)) + running / 2)
end

-- Both for a waiting job; false, false for another.
local function standing(id, job)
  if job.status ~= 'queued' then return false, false end
  local position = estimate(id, job)
  return position, work_before(job, position)
end
