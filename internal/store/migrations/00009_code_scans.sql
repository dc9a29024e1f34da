-- +goose Up
-- The first scan of a code by an app: one row, written once.
CREATE TABLE code_scans (
    batch      BIGINT NOT NULL,
    idx        BIGINT NOT NULL,
    first_at   BIGINT NOT NULL,
    first_scan TEXT COLLATE "binary" NOT NULL,
    first_user TEXT COLLATE "binary" NOT NULL, -- keyed hash; empty = anonymous or erased
    PRIMARY KEY (batch, idx)
);
-- Erasing one user finds his first scans by it.
CREATE INDEX code_scans_of ON code_scans (first_user) WHERE first_user <> '';
