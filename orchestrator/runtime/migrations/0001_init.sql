-- Every process start of an orchestrator, with a lease by the database's clock. What is marked dead never lives again.
CREATE TABLE instances (
    instance_id TEXT   NOT NULL PRIMARY KEY,
    started_at  BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    dead        BIGINT NOT NULL CHECK (dead IN (0, 1))
);

-- One row a saga. The state is the fold of its events; the columns from `sequence` on repeat what lists filter by.
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
    phase           TEXT   NOT NULL CHECK (phase IN ('running', 'compensating', 'completing', 'completed', 'compensated')),
    outcome         TEXT   NOT NULL,
    needs_attention BIGINT NOT NULL CHECK (needs_attention IN (0, 1)),
    finished        BIGINT NOT NULL CHECK (finished IN (0, 1)),
    updated_at      BIGINT NOT NULL,
    UNIQUE (subject, idempotency_key),
    CHECK ((finished = 1) = (phase IN ('completed', 'compensated')))
);

-- What an instance that ended has left: the heartbeat of every other asks for it.
CREATE INDEX sagas_unfinished ON sagas (owner, saga_id) WHERE finished = 0;
CREATE INDEX sagas_by_subject ON sagas (subject, saga_id);

-- Append-only.
CREATE TABLE saga_events (
    saga_id  TEXT   NOT NULL,
    sequence BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    event    TEXT   NOT NULL,
    PRIMARY KEY (saga_id, sequence)
);
