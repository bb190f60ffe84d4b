-- The sagas of a subject are few, and found by the index that keeps its keys unique: sorting them costs a list less than a
-- second index costs every saga, twice.
DROP INDEX sagas_by_subject;
