-- +goose Up
-- A log of scans has each once: nothing looks for those that came twice.
DROP TABLE statistics_seen;
DROP TABLE statistics_duplicates;
ALTER TABLE statistics_state DROP COLUMN duplicates;

-- The logs of scans that this database knows. here is 1 for the one in its own
-- table, or in the files beside it. position is up to where one is counted that was
-- left, last the last scan that was brought to it and is counted elsewhere, '' = none.
CREATE TABLE ledgers (
    id       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    here     BIGINT NOT NULL,
    position BIGINT NOT NULL,
    last     TEXT NOT NULL
);
INSERT INTO ledgers (id, here, position, last)
    SELECT substr(node, 9), 0, position, scan FROM ledger_nodes WHERE substr(node, 1, 8) = 'counted ';
INSERT INTO ledgers (id, here, position, last)
    SELECT scan, 1, 0, '' FROM ledger_nodes WHERE node = 'ledger' ON CONFLICT (id) DO UPDATE SET here = 1;
DELETE FROM ledger_nodes WHERE node = 'ledger' OR substr(node, 1, 8) = 'counted ';
