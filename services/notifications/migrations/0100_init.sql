CREATE TABLE contacts (
    student_id TEXT NOT NULL PRIMARY KEY,
    email      TEXT NOT NULL,
    name       TEXT NOT NULL
);

-- One message a registration. next_delivery_at is when it may be delivered: 0 for at once, a moment of the database's
-- clock after a failure, and the end of the claim while somebody is at it; NULL when there is nothing more to do.
CREATE TABLE messages (
    registration_id   TEXT   NOT NULL PRIMARY KEY,
    student_id        TEXT   NOT NULL,
    outcome           TEXT   NOT NULL CHECK (outcome IN ('ENROLLED', 'REFUSED', 'CANCELLED')),
    subject           TEXT   NOT NULL,
    body              TEXT   NOT NULL,
    recorded_at       BIGINT NOT NULL,
    delivered_at      BIGINT,
    undeliverable     TEXT CHECK (undeliverable IN ('NO_CONTACT', 'REJECTED')),
    delivery_failures BIGINT NOT NULL CHECK (delivery_failures >= 0),
    next_delivery_at  BIGINT,
    CHECK (delivered_at IS NULL OR undeliverable IS NULL),
    CHECK ((next_delivery_at IS NULL) = (delivered_at IS NOT NULL OR undeliverable IS NOT NULL))
);

CREATE INDEX messages_of_student ON messages (student_id, recorded_at, registration_id);
CREATE INDEX messages_to_deliver ON messages (next_delivery_at, registration_id) WHERE next_delivery_at IS NOT NULL;
