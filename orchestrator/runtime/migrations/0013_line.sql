-- The waiting line: accepted sagas that no instance drives yet. A CHECK can't be changed in place in both databases.
ALTER TABLE sagas RENAME TO sagas_before;
CREATE TABLE sagas (
    saga_id         TEXT   NOT NULL PRIMARY KEY,
    definition      TEXT   NOT NULL,
    version         BIGINT NOT NULL CHECK (version BETWEEN 0 AND 4294967295),
    subject         TEXT   NOT NULL,
    idempotency_key TEXT   NOT NULL,
    fingerprint     TEXT   NOT NULL,
    request         TEXT   NOT NULL,
    traceparent     TEXT   NOT NULL,
    tracestate      TEXT   NOT NULL,
    -- When it was accepted.
    created_at      BIGINT NOT NULL,
    -- Its number in the order of acceptance; 0 of sagas from before there were tickets.
    ticket          BIGINT NOT NULL DEFAULT 0,
    -- Whether it waits in line: it has no owner and no event.
    queued          BIGINT NOT NULL DEFAULT 0 CHECK (queued IN (0, 1)),
    owner           TEXT   NOT NULL,
    sequence        BIGINT NOT NULL CHECK (sequence >= 0),
    phase           TEXT   NOT NULL CHECK
        (phase IN ('queued', 'running', 'compensating', 'completing', 'completed', 'compensated', 'abandoned')),
    outcome         TEXT   NOT NULL,
    needs_attention BIGINT NOT NULL CHECK (needs_attention IN (0, 1)),
    finished        BIGINT NOT NULL CHECK (finished IN (0, 1)),
    updated_at      BIGINT NOT NULL,
    UNIQUE (subject, idempotency_key),
    CHECK ((queued = 1) = (sequence = 0)),
    CHECK ((queued = 1) = (phase = 'queued')),
    CHECK ((finished = 1) = (phase IN ('completed', 'compensated', 'abandoned')))
);
INSERT INTO sagas (saga_id, definition, version, subject, idempotency_key, fingerprint, request, traceparent, tracestate,
    created_at, owner, sequence, phase, outcome, needs_attention, finished, updated_at)
SELECT saga_id, definition, version, subject, idempotency_key, fingerprint, request, traceparent, tracestate,
    created_at, owner, sequence, phase, outcome, needs_attention, finished, updated_at
FROM sagas_before;
DROP TABLE sagas_before;

-- A receipt keeps the number in the order of acceptance.
ALTER TABLE receipts ADD COLUMN ticket BIGINT NOT NULL DEFAULT 0;

-- What an instance that ended has left: the heartbeat of every other asks for it. `phase` and `sequence` are in no index,
-- so that an append changes none.
CREATE INDEX sagas_unfinished ON sagas (owner, saga_id) WHERE finished = 0 AND queued = 0;
CREATE INDEX sagas_needing_attention ON sagas (saga_id) WHERE needs_attention = 1;
CREATE INDEX sagas_in_line ON sagas (ticket) WHERE queued = 1;

-- Rows that are locked and never changed: 'tickets' by who accepts, 'turns' by who takes sagas out of the line. A row that
-- is changed with each commit leaves dead versions, which pile up beside an open snapshot.
CREATE TABLE line_locks (
    name TEXT NOT NULL PRIMARY KEY
);
INSERT INTO line_locks (name) VALUES ('tickets'), ('turns');

-- The largest is the ticket that was given last. Append-only, and swept.
CREATE TABLE line_tickets (
    last_ticket BIGINT NOT NULL PRIMARY KEY
);

-- The largest is the ticket up to which all have had their turn. Append-only, and swept.
CREATE TABLE line_turns (
    ticket BIGINT NOT NULL PRIMARY KEY
);

-- Whether registration is open: the last row counts, and without a row it is. Append-only, and kept.
CREATE TABLE door (
    number     BIGINT NOT NULL PRIMARY KEY,
    changed_at BIGINT NOT NULL,
    state      TEXT   NOT NULL CHECK (state IN ('open', 'paused', 'closed')),
    -- What students are told.
    sentence   TEXT   NOT NULL,
    set_by     TEXT   NOT NULL,
    reason     TEXT   NOT NULL
);
