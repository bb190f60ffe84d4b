-- What each instance has at work out of the line: other instances claim nothing that was accepted after `claims_to`. The
-- row with an instance's largest number counts, for a second. Append-only, and swept.
CREATE TABLE line_front (
    instance_id TEXT   NOT NULL,
    -- Of the commit that noted it.
    number      BIGINT NOT NULL,
    claims_to   BIGINT NOT NULL,
    noted_at    BIGINT NOT NULL,
    PRIMARY KEY (instance_id, number)
);
