-- A saga can be finished by an operator's decision. A CHECK can't be changed in place in both databases.
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
    created_at      BIGINT NOT NULL,
    owner           TEXT   NOT NULL,
    sequence        BIGINT NOT NULL CHECK (sequence >= 1),
    phase           TEXT   NOT NULL
        CHECK (phase IN ('running', 'compensating', 'completing', 'completed', 'compensated', 'abandoned')),
    outcome         TEXT   NOT NULL,
    needs_attention BIGINT NOT NULL CHECK (needs_attention IN (0, 1)),
    finished        BIGINT NOT NULL CHECK (finished IN (0, 1)),
    updated_at      BIGINT NOT NULL,
    UNIQUE (subject, idempotency_key),
    CHECK ((finished = 1) = (phase IN ('completed', 'compensated', 'abandoned')))
);
INSERT INTO sagas (saga_id, definition, version, subject, idempotency_key, fingerprint, request, traceparent, tracestate,
    created_at, owner, sequence, phase, outcome, needs_attention, finished, updated_at)
SELECT saga_id, definition, version, subject, idempotency_key, fingerprint, request, traceparent, tracestate,
    created_at, owner, sequence, phase, outcome, needs_attention, finished, updated_at
FROM sagas_before;
DROP TABLE sagas_before;

CREATE INDEX sagas_unfinished ON sagas (owner, saga_id) WHERE finished = 0;
CREATE INDEX sagas_by_subject ON sagas (subject, saga_id);
-- What operators look for among millions of others.
CREATE INDEX sagas_needing_attention ON sagas (saga_id) WHERE needs_attention = 1;

-- Cancels and operators' verbs that arrived at an instance which does not drive the saga, for the one that does. Rows
-- live for seconds: whoever asks takes its row away with the answer, or without one.
CREATE TABLE saga_requests (
    request_id TEXT   NOT NULL PRIMARY KEY,
    saga_id    TEXT   NOT NULL,
    -- What is wanted, by whom and why, as JSON.
    wanted     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    -- As JSON; none as long as the owner has not answered.
    answer     TEXT
);
