-- The version of the section that the grant made. 0: not known, because an earlier version of this service wrote the row.
ALTER TABLE holds ADD COLUMN section_version BIGINT NOT NULL DEFAULT 0 CHECK (section_version >= 0);
