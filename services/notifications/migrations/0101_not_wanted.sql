-- A message can be only for the record: an import of rosters made the registration. A constraint can't be changed in place.
ALTER TABLE messages RENAME TO messages_before;
CREATE TABLE messages (
    registration_id   TEXT   NOT NULL PRIMARY KEY,
    student_id        TEXT   NOT NULL,
    outcome           TEXT   NOT NULL CHECK (outcome IN ('ENROLLED', 'REFUSED', 'CANCELLED')),
    subject           TEXT   NOT NULL,
    body              TEXT   NOT NULL,
    recorded_at       BIGINT NOT NULL,
    delivered_at      BIGINT,
    undeliverable     TEXT CHECK (undeliverable IN ('NO_CONTACT', 'REJECTED', 'NOT_WANTED')),
    delivery_failures BIGINT NOT NULL CHECK (delivery_failures >= 0),
    next_delivery_at  BIGINT,
    CHECK (delivered_at IS NULL OR undeliverable IS NULL),
    CHECK ((next_delivery_at IS NULL) = (delivered_at IS NOT NULL OR undeliverable IS NOT NULL))
);
INSERT INTO messages (registration_id, student_id, outcome, subject, body, recorded_at, delivered_at, undeliverable,
    delivery_failures, next_delivery_at)
SELECT registration_id, student_id, outcome, subject, body, recorded_at, delivered_at, undeliverable, delivery_failures,
    next_delivery_at
FROM messages_before;
DROP TABLE messages_before;

CREATE INDEX messages_of_student ON messages (student_id, recorded_at, registration_id);
CREATE INDEX messages_to_deliver ON messages (next_delivery_at, registration_id) WHERE next_delivery_at IS NOT NULL;
