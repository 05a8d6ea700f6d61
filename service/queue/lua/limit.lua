#!lua flags=allow-oom
-- Sets a tenant's limits; one that is not given goes back to its default.
local key = P .. 'tenant:' .. A.tenant
call('DEL', key)
for limit, value in pairs(A.limits) do call('HSET', key, limit, value) end
unpark_if_below_cap(A.tenant)
return 'ok'
