#!lua flags=allow-oom
-- Does what is due by the clock; called by the pulse of every API process.
maintain()
return 'ok'
