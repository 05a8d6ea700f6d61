#!lua flags=allow-oom
-- A worker is known to be dead: its jobs are offered again now, without waiting for their leases.
local held = call('SMEMBERS', P .. 'held:' .. A.worker)
for _, id in ipairs(held) do lose(id) end
call('DEL', P .. 'worker:' .. A.worker, P .. 'claim:' .. A.worker)
call('ZREM', P .. 'workers', A.worker)
return #held
