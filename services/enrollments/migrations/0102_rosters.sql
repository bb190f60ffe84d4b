-- What imports of rosters have added and dropped: an import ends only what an import added, and takes nothing over again
-- that its student has dropped.
ALTER TABLE enrollments ADD COLUMN roster_row_id TEXT;
ALTER TABLE enrollments ADD COLUMN dropped_by_import BIGINT NOT NULL DEFAULT 0 CHECK (dropped_by_import IN (0, 1));
