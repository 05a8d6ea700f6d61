#!lua flags=allow-oom,no-writes
-- Jobs as they stand: of each {record, jobs before it, work before it}, or false where there is none.
local answers = {}
for i, id in ipairs(A.ids) do
  local record = call('HGETALL', job_key(id))
  answers[i] = #record > 0 and {record, standing(id, load(id))}
end
return answers
