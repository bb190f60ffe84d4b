-- bundle_capacity: what the last bundle that named the section said; NULL where none has since these columns are there.
-- capacity_source: who has set capacity; NULL where an earlier version of this service has.
ALTER TABLE sections ADD COLUMN bundle_capacity BIGINT CHECK (bundle_capacity >= 0);
ALTER TABLE sections ADD COLUMN capacity_source TEXT CHECK (capacity_source IN ('BUNDLE', 'STAFF'));
