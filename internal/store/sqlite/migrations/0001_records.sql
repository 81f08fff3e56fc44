-- Keys are BLOBs so that their order is the order of their bytes, whatever they hold.
CREATE TABLE records (
    tbl     TEXT    NOT NULL,
    key     BLOB    NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    data    BLOB    NOT NULL,
    PRIMARY KEY (tbl, key)
) STRICT, WITHOUT ROWID;

-- One row that Store.Check rewrites to find out whether writing works.
CREATE TABLE probe (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;
INSERT INTO probe (id, at) VALUES (1, 0);
