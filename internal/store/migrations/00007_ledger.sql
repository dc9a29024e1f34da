-- +goose Up
-- The ledger of scans, in the order of their commits. A day is one of the time
-- in the id, so that a scan that arrives twice meets itself, and whole days can
-- be dropped. With the embedded database the ledger is in files beside it, and
-- these tables are empty.
INSERT INTO sequences (name, value) VALUES ('scan', 0);
CREATE TABLE scan_events (
    seq        BIGINT NOT NULL,
    day        BIGINT NOT NULL, -- since 1970-01-01 UTC
    id         TEXT COLLATE "binary" NOT NULL,
    at         BIGINT NOT NULL,
    user_hash  TEXT COLLATE "binary" NOT NULL,
    source     TEXT NOT NULL,
    client     TEXT NOT NULL,
    network    TEXT NOT NULL,
    region     TEXT NOT NULL,
    action     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    reason     TEXT NOT NULL,
    app        TEXT NOT NULL,
    version    TEXT NOT NULL,
    rule       BIGINT NOT NULL,
    batch      BIGINT NOT NULL,
    idx        BIGINT NOT NULL,
    activation BIGINT NOT NULL,
    link       TEXT NOT NULL,
    PRIMARY KEY (day, id)
)
-- postgres: PARTITION BY RANGE (day)
;
CREATE INDEX scan_events_seq ON scan_events (seq);
-- What has no day of its own.
-- postgres: CREATE TABLE scan_events_other PARTITION OF scan_events DEFAULT;

-- How far the journal of each node was brought here; and under the name
-- "ledger", the id of the ledger.
CREATE TABLE ledger_nodes (
    node     TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL,
    scan     TEXT NOT NULL
);

-- Users who were erased, for events of theirs that are on the way.
CREATE TABLE ledger_erasures (
    user_hash TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    up_to     BIGINT NOT NULL
);
