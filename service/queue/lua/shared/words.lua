-- Shared by every transition: the loader puts these files, in the order that scripts.py names, after
-- the transition's first line.
-- KEYS[1] is the prefix of all keys (service/queue/keys.py), ARGV[1] the arguments as JSON.
-- All times are Redis time in ms. Model and tenant names arrive quoted.

local P = KEYS[1]
local A = cjson.decode(ARGV[1])
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local UPDATES_KEPT, UPDATES_MS = 128, 300000
local EVENTS_KEPT = 1000
local BATCH = 64            -- bounds the work of one maintenance
local WAKE_TOKENS, WAKE_MS = 16, 2000
local LONGEST_LEASE_MS = 30000
local REPEATED_MS = 60000   -- a caller repeats a call that it heard nothing of for no longer
local LOOKS = 128           -- bounds how many tenants and jobs one lease passes over
local SAMPLE = 16           -- bounds how many tenants an estimate looks at

local BOOKKEEPING = {
  'status', 'model', 'tenant', 'place', 'sequence', 'slots', 'work', 'token', 'given_up', 'worker',
  'cancel_requested', 'cancel_reason', 'attempt', 'strikes', 'max_attempts', 'retention_ms',
  'deadline_at_ms', 'idempotency', 'step', 'total_steps', 'webhook_events',
}

local function job_key(id) return P .. 'job:' .. id end
local function ready_key(model, tenant) return P .. 'ready:' .. model .. ':' .. tenant end

-- A missing field is false.
local function load(id)
  local job = {}
  for i, value in ipairs(call('HMGET', job_key(id), unpack(BOOKKEEPING))) do
    job[BOOKKEEPING[i]] = value
  end
  return job
end

local function holds(job, token) return job.status == 'running' and job.token == token end
