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

-- A student's completed courses become one text, which imports read and write at once: `course|term|grade` for each,
-- separated by commas. The term is empty where it is not known, as it is for all that earlier versions have stored.
CREATE TABLE transcript (
    student_id TEXT NOT NULL PRIMARY KEY REFERENCES student,
    completed  TEXT NOT NULL
);
INSERT INTO transcript (student_id, completed)
SELECT student_id, string_agg(course_id || '||' || grade, ',') FROM completed_course GROUP BY student_id;
DROP TABLE completed_course;
