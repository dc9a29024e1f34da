-- +goose Up
-- Calls by their request id. Rows leave in the order of their numbers.
INSERT INTO sequences (name, value) VALUES ('call', 0);
CREATE TABLE calls (
    seq       BIGINT NOT NULL PRIMARY KEY,
    rid       TEXT COLLATE "binary" NOT NULL UNIQUE, -- begins with the second of the call: its order is that of time
    account   TEXT NOT NULL,
    at        BIGINT NOT NULL,
    took      BIGINT NOT NULL, -- milliseconds
    path      TEXT NOT NULL,
    query     TEXT NOT NULL,
    request   TEXT NOT NULL,
    response  TEXT NOT NULL,
    client_ip TEXT NOT NULL
);
