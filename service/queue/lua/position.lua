#!lua flags=allow-oom,no-writes
-- Estimates how many jobs leave the queue before this one: with equal costs, fair queueing takes one
-- job of every tenant in each round. False for a job that does not wait.
local job = load(A.id)
if job.status ~= 'queued' then return false end
local rank = call('ZRANK', ready_key(job.model, job.tenant), A.id)
local tenants = call('ZRANGE', P .. 'active:' .. job.model, 0, -1)
local ahead, mine = rank or 0, rank and #tenants or 0
for i, tenant in ipairs(tenants) do
  local ready = call('ZCARD', ready_key(job.model, tenant))
  if tenant == job.tenant and rank then
    mine = i
  elseif not rank then
    ahead = ahead + ready
  else
    ahead = ahead + math.min(ready, i < mine and rank + 1 or rank)
  end
end
return ahead
