-- +goose Up
-- What callers did that the platform may mind: how often, the first and the last call.
CREATE TABLE deviations (
    account   TEXT COLLATE "binary" NOT NULL,
    endpoint  TEXT COLLATE "binary" NOT NULL,
    behaviour TEXT COLLATE "binary" NOT NULL,
    times     BIGINT NOT NULL,
    first_rid TEXT NOT NULL,
    first_at  BIGINT NOT NULL,
    last_rid  TEXT NOT NULL,
    last_at   BIGINT NOT NULL,
    PRIMARY KEY (account, endpoint, behaviour)
);
