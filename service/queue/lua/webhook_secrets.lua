#!lua flags=allow-oom
-- What signs a tenant's deliveries: {newest} or {newest, the one before, ms of its end}. The first
-- question makes a secret; a rotation makes `fresh` the newest and lets the one before it sign on.
local key = P .. 'webhook-secrets:' .. A.tenant
call('HSETNX', key, 'secret', A.fresh)
local newest = call('HGET', key, 'secret')
if A.rotate and newest ~= A.fresh then
  call('HSET', key, 'secret', A.fresh, 'previous', newest, 'previous_ends', now + A.overlap_ms)
  newest = A.fresh
end
local before = call('HMGET', key, 'previous', 'previous_ends')
if before[1] and now < tonumber(before[2]) then return {newest, before[1], before[2]} end
return {newest}
