-- The first event of a saga that has begun, in the saga's row: a row of `saga_events` for it costs more than its text. Empty
-- of a saga that has not begun, and of sagas from before: their first event is in `saga_events`.
ALTER TABLE sagas ADD COLUMN first_event TEXT NOT NULL DEFAULT '';
-- The receipts of a subject are few, and found by the index that keeps its keys unique.
DROP INDEX receipts_by_subject;
