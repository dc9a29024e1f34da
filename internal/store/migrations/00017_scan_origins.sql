-- +goose Up
-- Which scans of each node's journal are counted, for a stream that is lost: all
-- up to a position, and those of the set.
CREATE TABLE scan_origins (
    node   TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    up_to  BIGINT NOT NULL,
    beyond TEXT NOT NULL
);
