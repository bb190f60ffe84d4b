-- A student can be closed or disabled, and has the role of a student for a time; NULL: that end is open.
ALTER TABLE student ADD COLUMN closed BIGINT NOT NULL DEFAULT 0 CHECK (closed IN (0, 1));
ALTER TABLE student ADD COLUMN disabled BIGINT NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1));
ALTER TABLE student ADD COLUMN active_from BIGINT;
ALTER TABLE student ADD COLUMN active_until BIGINT;

-- source: who has set what is in force. It is NULL for a hold of an earlier version, which did not store it: nobody knows
-- whether staff or a bundle set the hold. Such a hold must not disappear because a bundle does not name it, so it stays
-- until staff lift it, or until a bundle names it and makes it the bundle's.
-- bundle_description: what the last bundle says of the hold; NULL: it does not name the hold. A hold of staff can be named,
-- too: then description is theirs.
-- lifted: staff have lifted a hold that the bundle still names, so that the next import does not set it again.
ALTER TABLE hold ADD COLUMN source TEXT CHECK (source IN ('BUNDLE', 'STAFF'));
ALTER TABLE hold ADD COLUMN bundle_description TEXT CHECK (
    CASE source WHEN 'BUNDLE' THEN bundle_description IS NOT NULL WHEN 'STAFF' THEN true ELSE bundle_description IS NULL END
);
ALTER TABLE hold ADD COLUMN lifted BIGINT NOT NULL DEFAULT 0 CHECK (
    lifted = 0 OR (lifted = 1 AND source IS NOT NULL AND source = 'BUNDLE')
);

-- Earlier versions let only staff grant overrides.
ALTER TABLE override_grant ADD COLUMN source TEXT NOT NULL DEFAULT 'STAFF' CHECK (source IN ('BUNDLE', 'STAFF'));

-- The term becomes part of the key, and a key can't be changed in place. term_id '': not known.
CREATE TABLE completed_course_of_term (
    student_id TEXT NOT NULL REFERENCES student,
    course_id  TEXT NOT NULL,
    term_id    TEXT NOT NULL,
    grade      TEXT NOT NULL,
    PRIMARY KEY (student_id, course_id, term_id, grade)
);
INSERT INTO completed_course_of_term (student_id, course_id, term_id, grade)
SELECT student_id, course_id, '', grade FROM completed_course;
DROP TABLE completed_course;
ALTER TABLE completed_course_of_term RENAME TO completed_course;
