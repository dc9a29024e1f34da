-- +goose Up
-- What an emulator is taken back to, by name. Decision 84.
CREATE TABLE snapshots (
    name     TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    at       BIGINT NOT NULL,
    program  TEXT NOT NULL,
    schema   BIGINT NOT NULL, -- of the rows
    accounts BIGINT NOT NULL,
    rules    BIGINT NOT NULL,
    batches  BIGINT NOT NULL,
    data     TEXT NOT NULL -- the tables as rows of an export, JSON, gzip, base64
);
