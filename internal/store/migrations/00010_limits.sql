-- +goose Up
-- Calls of the last second, where several nodes count together. On PostgreSQL
-- the table is made UNLOGGED: a crash may forget a second of calls, and no call
-- waits for the disk.
CREATE TABLE limits (
    key   TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    times TEXT NOT NULL,   -- microseconds by the database's clock, as {1,2,3}
    at    BIGINT NOT NULL, -- of the last call, allowed or not
    ok    BIGINT NOT NULL  -- 1 = it was allowed
);
