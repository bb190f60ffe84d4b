-- Each import makes the next version. A plan is made of one version, and is applied to no other.
CREATE TABLE import_version (
    one     BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    version BIGINT NOT NULL CHECK (version >= 0)
);
INSERT INTO import_version (one, version) VALUES (1, 0);

-- Parts of imports that are not applied yet. body: an encoded matricula.imports.v1.StageRowsRequest in Base64. bytes is
-- the length of body, and before it, so that a sum does not read the bodies.
CREATE TABLE staged_import (
    import_id TEXT   NOT NULL,
    part      BIGINT NOT NULL CHECK (part >= 0),
    staged_at BIGINT NOT NULL,
    bytes     BIGINT NOT NULL,
    body      TEXT   NOT NULL,
    PRIMARY KEY (import_id, part)
);
