-- Services that do not answer an instance, for operators at other instances: written while a service needs attention, and
-- taken away when it answers again. A row of an instance that has ended says nothing, and is swept.
CREATE TABLE outages (
    instance_id TEXT NOT NULL,
    destination TEXT NOT NULL,
    -- What the instance saw last, as JSON.
    outage      TEXT NOT NULL,
    PRIMARY KEY (instance_id, destination)
);
