-- What stays of a saga whose log has gone to the archive: enough to answer its key again, to list it and to audit it.
-- One row a saga, for ever; written and read beside the way of a registration, but for one look by key an admission.
CREATE TABLE receipts (
    saga_id         TEXT   NOT NULL PRIMARY KEY,
    definition      TEXT   NOT NULL,
    version         BIGINT NOT NULL CHECK (version BETWEEN 0 AND 4294967295),
    subject         TEXT   NOT NULL,
    idempotency_key TEXT   NOT NULL,
    fingerprint     TEXT   NOT NULL,
    request         TEXT   NOT NULL,
    created_at      BIGINT NOT NULL,
    finished_at     BIGINT NOT NULL,
    phase           TEXT   NOT NULL CHECK (phase IN ('completed', 'compensated', 'abandoned')),
    outcome         TEXT   NOT NULL,
    -- What the saga's answer was, in the words of its domain, as JSON.
    receipt         TEXT   NOT NULL,
    -- The file of the archive that has its log.
    archived_in     TEXT   NOT NULL,
    UNIQUE (subject, idempotency_key)
);
CREATE INDEX receipts_by_subject ON receipts (subject, saga_id);
