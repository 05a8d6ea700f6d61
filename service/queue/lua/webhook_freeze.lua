#!lua flags=allow-oom
-- Fixes the body of a delivery before its first attempt: every later one sends the same bytes.
local delivery = A.id
if load_delivery(delivery).claim ~= A.token then return 'lost' end
call('HSETNX', delivery_key(delivery), 'body', A.body)
call('DEL', told_key(delivery))
return 'ok'
