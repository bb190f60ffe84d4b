-- One row an enrollment, for ever: a registration adds a section at most once.
--   PENDING:   added, not committed     ENROLLED: committed     CANCELLED: undone before the commit
--   DROPPED:   committed as dropped by another registration, which had marked it before
CREATE TABLE enrollments (
    registration_id            TEXT   NOT NULL,
    section_id                 TEXT   NOT NULL,
    student_id                 TEXT   NOT NULL,
    course_id                  TEXT   NOT NULL,
    component                  TEXT   NOT NULL,
    status                     TEXT   NOT NULL CHECK (status IN ('PENDING', 'ENROLLED', 'CANCELLED', 'DROPPED')),
    dropped_by_registration_id TEXT,
    created_at                 BIGINT NOT NULL,
    changed_at                 BIGINT NOT NULL,
    PRIMARY KEY (registration_id, section_id),
    CHECK (status = 'ENROLLED'
        OR (status = 'DROPPED' AND dropped_by_registration_id IS NOT NULL)
        OR (status IN ('PENDING', 'CANCELLED') AND dropped_by_registration_id IS NULL))
);

-- The last guard, below the rules: nobody is twice in a section, or in two sections of one part of a course. A row that
-- is marked to be dropped leaves its place to the section that is swapped in.
CREATE UNIQUE INDEX enrollments_one_of_section ON enrollments (student_id, section_id)
    WHERE status IN ('PENDING', 'ENROLLED') AND dropped_by_registration_id IS NULL;
CREATE UNIQUE INDEX enrollments_one_of_course ON enrollments (student_id, course_id, component)
    WHERE status IN ('PENDING', 'ENROLLED') AND dropped_by_registration_id IS NULL;

-- The enrollments of a student, in order of time.
CREATE INDEX enrollments_of_student ON enrollments (student_id, created_at, registration_id, section_id);
