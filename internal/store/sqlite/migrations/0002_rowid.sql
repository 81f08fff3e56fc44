-- Records stand in the order in which they came, and an index on their keys finds
-- them. In a tree ordered by key, records of a kilobyte left room for few of them in
-- a page: it was deep, and a random key made pages of its own dirty. The index is
-- there before the rows, which come in its order, so that nothing is sorted in memory.
CREATE TABLE records_by_id (
    id      INTEGER NOT NULL PRIMARY KEY,
    tbl     TEXT    NOT NULL,
    key     BLOB    NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    data    BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX records_by_key ON records_by_id (tbl, key);
-- repeat
INSERT INTO records_by_id (tbl, key, version, data) SELECT tbl, key, version, data FROM records ORDER BY tbl, key LIMIT 1000;
DELETE FROM records WHERE (tbl, key) IN (SELECT tbl, key FROM records ORDER BY tbl, key LIMIT 1000);
-- end
DROP TABLE records;
ALTER TABLE records_by_id RENAME TO records;
