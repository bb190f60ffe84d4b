-- The rows of a student are few: they are put in order when they are listed. So a key of the index is short, and the keys of
-- a student lie together.
DROP INDEX enrollments_of_student;
CREATE INDEX enrollments_of_student ON enrollments (student_id);
