#!lua flags=allow-oom
-- Renews all leases of a worker at once: for each {id, token, step} it answers ok, cancel or lost.
touch()
local answers = {}
for i, held in ipairs(A.held) do
  local id, token, step = held[1], held[2], held[3]
  local job = load(id)
  if holds(job, token) then
    call('ZADD', P .. 'leases', now + A.lease_ms, id)
    progress(id, job, step)
    local reason = reason_to_stop(job)
    if reason then ask_to_stop(id, job, reason) end
    answers[i] = reason and 'cancel' or 'ok'
  else
    answers[i] = 'lost'
  end
end
return answers
