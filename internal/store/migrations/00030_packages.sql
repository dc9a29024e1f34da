-- +goose Up
-- Which codes were handed to which printer: a row for each package that was made.
INSERT INTO sequences (name, value) VALUES ('package', 0);
CREATE TABLE packages (
    id          BIGINT NOT NULL PRIMARY KEY,
    batch       BIGINT NOT NULL,
    first_idx   BIGINT NOT NULL,
    last_idx    BIGINT NOT NULL,
    spare       BIGINT NOT NULL, -- of them, the last so many stand in for what spoils
    proofs      BIGINT NOT NULL, -- the batch of its proof codes; 0 = none
    printer     TEXT COLLATE "binary" NOT NULL,
    recipients  TEXT NOT NULL,   -- JSON, public keys; [] = a passphrase
    formats     TEXT NOT NULL,   -- JSON
    again       TEXT NOT NULL,   -- JSON, packages that have codes of it too
    reason      TEXT NOT NULL,
    made_by     TEXT NOT NULL,
    made_at     BIGINT NOT NULL,
    sent        BIGINT NOT NULL, -- downloads that were begun
    spoiled     TEXT NOT NULL,   -- the set: gaps and lengths
    recalled_at BIGINT NOT NULL, -- 0 = not recalled
    recalled_by TEXT NOT NULL
);
CREATE INDEX packages_of ON packages (batch, first_idx);

-- Codes for trials: they never activate.
ALTER TABLE batches ADD COLUMN proof BIGINT NOT NULL DEFAULT 0;
