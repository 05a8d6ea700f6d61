#!lua flags=allow-oom
-- A worker says that it lives and what it serves; silence takes its presence away.
call('SET', P .. 'worker:' .. A.worker, A.presence, 'PX', A.presence_ms)
call('ZADD', P .. 'workers', now, A.worker)
return now
