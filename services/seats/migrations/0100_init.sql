-- One row a section. It is the lock of its seats: whoever changes the section or one of its holds has this row locked.
-- taken is always the number of its holds that are not released. closed_at is set exactly while no seat is free.
CREATE TABLE sections (
    section_id TEXT   NOT NULL PRIMARY KEY,
    capacity   BIGINT NOT NULL CHECK (capacity >= 0),
    taken      BIGINT NOT NULL CHECK (taken >= 0),
    version    BIGINT NOT NULL CHECK (version >= 1),
    changed_at BIGINT NOT NULL,
    closed_at  BIGINT,
    CHECK ((closed_at IS NULL AND taken < capacity) OR (closed_at IS NOT NULL AND taken >= capacity))
);

-- One row a grant, for ever: who took which seat, by which step, what the section looked like, and who gave it back.
-- A grant beyond the capacity names the override that allowed it. There is no foreign key: a hold is only ever written
-- under the lock of its section, and the check would cost a look-up a grant on the busiest path there is.
CREATE TABLE holds (
    registration_id   TEXT   NOT NULL,
    section_id        TEXT   NOT NULL,
    step              TEXT   NOT NULL,
    student_id        TEXT   NOT NULL,
    granted_at        BIGINT NOT NULL,
    released_at       BIGINT,
    released_by       TEXT,
    taken_after       BIGINT NOT NULL CHECK (taken_after >= 1),
    capacity_at_grant BIGINT NOT NULL CHECK (capacity_at_grant >= 0),
    override_id       TEXT,
    PRIMARY KEY (registration_id, section_id),
    CHECK ((released_at IS NULL) = (released_by IS NULL)),
    CHECK (taken_after <= capacity_at_grant OR override_id IS NOT NULL)
);
