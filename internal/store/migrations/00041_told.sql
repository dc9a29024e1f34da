-- +goose Up
-- Which scans of each node's journal were told to webhooks: all up to a position, and
-- those of the set. It is written while a webhook wants scans.
CREATE TABLE scan_told (
    node   TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    up_to  BIGINT NOT NULL,
    beyond TEXT NOT NULL
);
-- The scan that stands at the position, with the position; '?' = the first one that was
-- not told is to be looked for, '' = nobody knows.
ALTER TABLE webhook_readers ADD COLUMN mark TEXT NOT NULL DEFAULT '';
