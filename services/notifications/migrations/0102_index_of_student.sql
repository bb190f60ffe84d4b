-- The messages of a student are few: they are put in order when they are listed. So a key of the index is short, and the keys
-- of a student lie together.
DROP INDEX messages_of_student;
CREATE INDEX messages_of_student ON messages (student_id);
