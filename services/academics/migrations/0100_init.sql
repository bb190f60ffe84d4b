-- The catalogue. Every import makes the next version; who keeps the catalogue in memory compares versions.
CREATE TABLE catalog_version (
    one     BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    version BIGINT NOT NULL CHECK (version >= 0)
);
INSERT INTO catalog_version (one, version) VALUES (1, 0);

CREATE TABLE term (
    term_id                TEXT   NOT NULL PRIMARY KEY,
    title                  TEXT   NOT NULL,
    add_deadline           BIGINT,
    drop_deadline          BIGINT,
    max_credits_hundredths BIGINT NOT NULL CHECK (max_credits_hundredths >= 0)
);

CREATE TABLE course (
    course_id          TEXT   NOT NULL PRIMARY KEY,
    code               TEXT   NOT NULL,
    title              TEXT   NOT NULL,
    credits_hundredths BIGINT NOT NULL CHECK (credits_hundredths >= 0),
    prerequisites      TEXT   NOT NULL,
    corequisites       TEXT   NOT NULL
);

CREATE TABLE section (
    section_id          TEXT   NOT NULL PRIMARY KEY,
    course_id           TEXT   NOT NULL REFERENCES course,
    term_id             TEXT   NOT NULL REFERENCES term,
    title               TEXT   NOT NULL,
    component           TEXT   NOT NULL,
    meetings            TEXT   NOT NULL,
    cancelled           BIGINT NOT NULL CHECK (cancelled IN (0, 1)),
    permission_required BIGINT NOT NULL CHECK (permission_required IN (0, 1))
);

-- The row that a registration locks: everything about a student is decided under it.
CREATE TABLE student (
    student_id             TEXT   NOT NULL PRIMARY KEY,
    name                   TEXT   NOT NULL,
    appointment_start      BIGINT,
    appointment_end        BIGINT,
    max_credits_hundredths BIGINT NOT NULL CHECK (max_credits_hundredths >= 0)
);

CREATE TABLE hold (
    student_id  TEXT NOT NULL REFERENCES student,
    hold_id     TEXT NOT NULL,
    description TEXT NOT NULL,
    PRIMARY KEY (student_id, hold_id)
);

-- A course may have been completed several times, with different grades.
CREATE TABLE completed_course (
    student_id TEXT NOT NULL REFERENCES student,
    course_id  TEXT NOT NULL,
    grade      TEXT NOT NULL,
    PRIMARY KEY (student_id, course_id, grade)
);

-- section_id NULL: for every section. valid_until NULL: no end.
CREATE TABLE override_grant (
    override_id   TEXT   NOT NULL PRIMARY KEY,
    student_id    TEXT   NOT NULL REFERENCES student,
    section_id    TEXT,
    reason        TEXT   NOT NULL,
    granted_by    TEXT   NOT NULL,
    justification TEXT   NOT NULL,
    granted_at    BIGINT NOT NULL,
    valid_until   BIGINT
);
CREATE INDEX override_grant_student ON override_grant (student_id);

-- What registrations put on the record. The key begins with the registration's id, which grows with time, so that new
-- rows go to the end of the index.
CREATE TABLE course_record (
    registration_id            TEXT   NOT NULL,
    section_id                 TEXT   NOT NULL,
    student_id                 TEXT   NOT NULL,
    course_id                  TEXT   NOT NULL,
    term_id                    TEXT   NOT NULL,
    credits_hundredths         BIGINT NOT NULL CHECK (credits_hundredths >= 0),
    status                     TEXT   NOT NULL CHECK (status IN ('PENDING', 'ENROLLED', 'CANCELLED', 'DROPPED')),
    dropped_by_registration_id TEXT,
    recorded_at                BIGINT NOT NULL,
    changed_at                 BIGINT NOT NULL,
    PRIMARY KEY (registration_id, section_id),
    CHECK (status NOT IN ('PENDING', 'CANCELLED') OR dropped_by_registration_id IS NULL),
    CHECK (status <> 'DROPPED' OR dropped_by_registration_id IS NOT NULL)
);
CREATE INDEX course_record_student ON course_record (student_id);
