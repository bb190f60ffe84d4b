-- One row for each (saga, step) that was heard of: what its action was answered, and whether it has been undone.
--   answer set,   undone false: the action was decided
--   answer set,   undone true:  it was decided, then undone
--   answer NULL,  undone true:  a tombstone: the undo came first, and the action is refused when it arrives
CREATE TABLE barrier (
    saga_id     TEXT    NOT NULL,
    step        TEXT    NOT NULL,
    answer      TEXT,
    undone      BIGINT  NOT NULL CHECK (undone IN (0, 1)),
    recorded_at BIGINT  NOT NULL,
    PRIMARY KEY (saga_id, step),
    CHECK (answer IS NOT NULL OR undone = 1)
);
