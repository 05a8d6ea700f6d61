-- While Redis could not be reached, every lease ran out though its owner may live. After such a gap
-- owners get a grace to renew. A second gap soon after it is not believed, so that rare callers
-- can't put off the end of a dead worker's leases for ever.
local function touch()
  local alive = tonumber(call('GET', P .. 'alive') or now)
  local grace = tonumber(call('GET', P .. 'grace') or 0)
  local gap = A.lease_ms / 2
  call('SET', P .. 'alive', now)
  if now - alive > gap and now > grace + gap then call('SET', P .. 'grace', now + A.grace_ms) end
end

local function each_due(key, act)
  for _, member in ipairs(call('ZRANGEBYSCORE', P .. key, '-inf', now, 'LIMIT', 0, BATCH)) do
    call('ZREM', P .. key, member)
    act(member)
  end
end

local function clamp_leases()
  -- The clock of the server went back: without this a lease would outlive its owner by the jump.
  local latest = now + math.max(LONGEST_LEASE_MS, 2 * A.lease_ms)
  local key = P .. 'leases'
  for _, id in ipairs(call('ZRANGEBYSCORE', key, '(' .. latest, '+inf', 'LIMIT', 0, BATCH)) do
    call('ZADD', key, latest, id)
  end
end

local function forget(member)
  local tenant, id = string.match(member, '^(%S+) (%S+)$')
  call('ZREM', P .. 'jobs:' .. tenant, id)
end

local function end_in_time(id)
  local job = load(id)
  local reason = reason_to_stop(job)
  if reason then stop(id, job, reason) end
end

-- Whatever is due by the clock. Leases and the API's pulse both come here, so that lost jobs are
-- offered again although no worker lives.
local function maintain()
  touch()
  clamp_leases()
  each_due('deadlines', end_in_time)
  each_due('delayed', function(id) offer(id, load(id)) end)
  each_due('expiring', forget)
  if now >= tonumber(call('GET', P .. 'grace') or 0) then each_due('leases', lose) end
  call('ZREMRANGEBYSCORE', P .. 'workers', '-inf', now - A.presence_ms)
end
