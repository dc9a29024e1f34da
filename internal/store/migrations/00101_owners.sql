-- +goose Up
-- Whose scans are. Nodes of schema 100 count on beside this one: they name the columns that they know.

-- Counts of owners stand in statistics_counts as per 7, 8 and 11, with a number of the owner, a hash, in the place of the
-- rule; their sums and sketches of users have the dimension 10.
CREATE TABLE statistics_owners (
    number BIGINT NOT NULL PRIMARY KEY,
    name   TEXT COLLATE "binary" NOT NULL
);

-- The first day from which on owners are counted, 0 = all days are; and how far the counting was when that was stored by
-- somebody who knows: where it is elsewhere, somebody else counted since.
ALTER TABLE statistics_state ADD COLUMN owners_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE statistics_state ADD COLUMN owners_mark TEXT NOT NULL DEFAULT '';
