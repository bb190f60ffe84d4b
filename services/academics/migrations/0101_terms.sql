-- What a term is a part of, and when it takes place. Dates are as in ISO 8601, in the time zone of the term; ends_on is
-- the day after the last one. A term of an earlier version has no dates until an import brings them.
ALTER TABLE term ADD COLUMN starts_on TEXT;
ALTER TABLE term ADD COLUMN ends_on TEXT CHECK ((starts_on IS NULL) = (ends_on IS NULL));
ALTER TABLE term ADD COLUMN time_zone TEXT NOT NULL DEFAULT 'UTC';
ALTER TABLE term ADD COLUMN parent_term_id TEXT REFERENCES term;
ALTER TABLE term ADD COLUMN kind TEXT NOT NULL DEFAULT 'TERM'
    CHECK (kind IN ('TERM', 'SEMESTER', 'GRADING_PERIOD', 'SCHOOL_YEAR'));
ALTER TABLE term ADD COLUMN closed BIGINT NOT NULL DEFAULT 0 CHECK (closed IN (0, 1));

ALTER TABLE course ADD COLUMN closed BIGINT NOT NULL DEFAULT 0 CHECK (closed IN (0, 1));
