-- +goose Up
INSERT INTO sequences (name, value) VALUES ('alarm', 0);

-- What the scans of a code gave rise to, once for each code and kind.
CREATE TABLE alarms (
    id       BIGINT NOT NULL PRIMARY KEY,
    kind     TEXT COLLATE "binary" NOT NULL,
    batch    BIGINT NOT NULL,
    idx      BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    scan     TEXT NOT NULL,
    score    BIGINT NOT NULL,
    why      TEXT NOT NULL, -- JSON
    seen_at  BIGINT NOT NULL, -- 0 = not acknowledged
    seen_by  TEXT NOT NULL,
    UNIQUE (kind, batch, idx)
);
CREATE INDEX alarms_open ON alarms (seen_at, id);
