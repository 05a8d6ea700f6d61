-- Events are numbered by their job, so that its two streams have one order.
local function next_event(id) return call('HINCRBY', job_key(id), 'events', 1) .. '-0' end

local function record(id, event_json)
  call('XADD', P .. 'events:' .. id, 'MAXLEN', EVENTS_KEPT, next_event(id), 'event', event_json)
end

local function log(id, event_json)
  record(id, event_json)
  call('PUBLISH', P .. 'hints', id)
end

local function update(id, event_json)
  local key = P .. 'updates:' .. id
  call('XADD', key, 'MAXLEN', UPDATES_KEPT, next_event(id), 'event', event_json)
  call('PEXPIRE', key, UPDATES_MS)
  call('PUBLISH', P .. 'hints', id)
end
