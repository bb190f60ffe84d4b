-- charges: 1 while the term has rates. A term whose rates were removed stays with 0: it charges nothing, and its refund
-- ladder goes on holding for what it has charged.
ALTER TABLE terms ADD COLUMN charges BIGINT NOT NULL DEFAULT 1 CHECK (charges IN (0, 1));
