-- What is to be told to clients' own servers; the sender takes it from here.

-- Puts an event of a job into the outbox, if its webhook asks for it.
local function tell(id, job, event)
end
