-- The first events of a saga, in the saga's row, which an append changes anyway: a row of `saga_events` costs several times as
-- much. Empty of a saga that has not begun, and of sagas from before: all their events are in `saga_events`.
ALTER TABLE sagas ADD COLUMN log TEXT NOT NULL DEFAULT '';
-- The receipts of a subject are few, and found by the index that keeps its keys unique.
DROP INDEX receipts_by_subject;
