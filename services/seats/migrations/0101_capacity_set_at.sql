-- When the capacity was set to what it is: a refusal tells a frozen section from a full one, and since when. NULL in rows
-- that were written before.
ALTER TABLE sections ADD COLUMN capacity_set_at BIGINT;
