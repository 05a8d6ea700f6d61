#!lua flags=allow-oom
-- Gives a sender deliveries that are due, each for the time of one attempt: {id, record, told}, and
-- the ms until more are due, or false. `lanes` and `tenants` count what the sender is at already.
local claims = {}

local function room(lane, tenant)
  local in_lane, of_tenant = A.lanes[lane] or 0, A.tenants[tenant] or 0
  return math.min(A.free - #claims, A.per_lane - in_lane, A.per_tenant - of_tenant)
end

local function take(delivery, lane)
  local record = load_delivery(delivery)
  local known = record.job and (call('HEXISTS', delivery_key(delivery), 'body') == 1
    or call('EXISTS', told_key(delivery)) == 1)
  if not known then return call('ZREM', P .. 'webhooks:' .. lane, delivery) end
  if call('EXISTS', gone_key(record.tenant, record.url)) == 1 then
    call('ZREM', P .. 'webhooks:' .. lane, delivery)
    call('HSET', delivery_key(delivery), 'state', 'disabled')
    return
  end
  call('HSET', delivery_key(delivery), 'claim', A.token)
  call('ZADD', P .. 'webhooks:' .. lane, now + A.lease_ms, delivery)
  A.lanes[lane] = (A.lanes[lane] or 0) + 1
  A.tenants[record.tenant] = (A.tenants[record.tenant] or 0) + 1
  claims[#claims + 1] = {
    delivery, call('HGETALL', delivery_key(delivery)), call('HGETALL', told_key(delivery)),
  }
end

-- A lane that has no room here goes behind the others for a while, so that no one hides the rest.
for _, lane in ipairs(call('ZRANGEBYSCORE', P .. 'webhooks', '-inf', now, 'LIMIT', 0, BATCH)) do
  local count = room(lane, string.match(lane, '^[^:]+'))
  if #claims == A.free then break end
  if count > 0 then
    local key = P .. 'webhooks:' .. lane
    for _, delivery in ipairs(call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, count)) do
      take(delivery, lane)
    end
    line_up(lane)
  else
    call('ZADD', P .. 'webhooks', now + A.full_ms, lane)
  end
end

local head = call('ZRANGE', P .. 'webhooks', 0, 0, 'WITHSCORES')
return {claims, head[1] and math.max(0, head[2] - now) or false}
