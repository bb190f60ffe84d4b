-- One currency for the whole installation: set by the first import of rates, never changed after. Until then nothing
-- but zeros can be posted.
CREATE TABLE currency (
    id   BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    code TEXT   NOT NULL
);

-- refund_ladder: JSON array of [until in Unix milliseconds, percent], ordered by until. balance_limit: NULL when the
-- term has none.
CREATE TABLE terms (
    term_id       TEXT   NOT NULL PRIMARY KEY,
    per_credit    BIGINT NOT NULL CHECK (per_credit BETWEEN 0 AND 1000000000),
    refund_ladder TEXT   NOT NULL,
    balance_limit BIGINT CHECK (balance_limit BETWEEN 1 AND 1000000000000)
);

CREATE TABLE course_fees (
    course_id   TEXT   NOT NULL PRIMARY KEY,
    minor_units BIGINT NOT NULL CHECK (minor_units BETWEEN 0 AND 1000000000)
);

-- Append-only. registration_id is the registration that was charged; a refund is caused by the one that drops.
-- term_id is the term whose refund ladder holds for the charge.
CREATE TABLE postings (
    registration_id           TEXT   NOT NULL,
    section_id                TEXT   NOT NULL,
    kind                      TEXT   NOT NULL CHECK (kind IN ('CHARGE', 'VOID', 'REFUND')),
    student_id                TEXT   NOT NULL,
    term_id                   TEXT   NOT NULL,
    minor_units               BIGINT NOT NULL CHECK (minor_units BETWEEN -101000000000 AND 101000000000),
    caused_by_registration_id TEXT   NOT NULL,
    posted_at                 BIGINT NOT NULL,
    PRIMARY KEY (registration_id, section_id, kind),
    CHECK (CASE WHEN kind = 'CHARGE' THEN minor_units >= 0 ELSE minor_units <= 0 END),
    CHECK (kind = 'REFUND' OR caused_by_registration_id = registration_id)
);

-- A charge is given back once: voided or refunded, whichever replica comes first.
CREATE UNIQUE INDEX postings_given_back_once ON postings (registration_id, section_id) WHERE kind <> 'CHARGE';
CREATE INDEX postings_of_student ON postings (student_id, posted_at);

-- The balance is the sum of the student's postings; both change in one transaction. SQLite would turn an integer that
-- overflows into a float: the bounds keep it far from there.
CREATE TABLE accounts (
    student_id TEXT   NOT NULL PRIMARY KEY,
    balance    BIGINT NOT NULL CHECK (balance BETWEEN -1000000000000000000 AND 1000000000000000000)
);
