-- What the unique indexes ask for does not change when an enrollment is committed: then PostgreSQL changes the row on its
-- page, and no index has to be told. A generated column can't be added to a table in both databases.
ALTER TABLE enrollments RENAME TO enrollments_before;
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
    -- Whether it takes its student's place in the section and in the part of the course.
    takes_place                BIGINT NOT NULL GENERATED ALWAYS AS (
        CASE WHEN status IN ('PENDING', 'ENROLLED') AND dropped_by_registration_id IS NULL THEN 1 ELSE 0 END) STORED,
    PRIMARY KEY (registration_id, section_id),
    CHECK (status = 'ENROLLED'
        OR (status = 'DROPPED' AND dropped_by_registration_id IS NOT NULL)
        OR (status IN ('PENDING', 'CANCELLED') AND dropped_by_registration_id IS NULL))
);
INSERT INTO enrollments (registration_id, section_id, student_id, course_id, component, status,
    dropped_by_registration_id, created_at, changed_at)
SELECT registration_id, section_id, student_id, course_id, component, status, dropped_by_registration_id, created_at,
    changed_at
FROM enrollments_before;
DROP TABLE enrollments_before;

CREATE UNIQUE INDEX enrollments_one_of_section ON enrollments (student_id, section_id) WHERE takes_place = 1;
CREATE UNIQUE INDEX enrollments_one_of_course ON enrollments (student_id, course_id, component) WHERE takes_place = 1;
CREATE INDEX enrollments_of_student ON enrollments (student_id, created_at, registration_id, section_id);
