-- +goose Up
INSERT INTO sequences (name, value) VALUES ('notice', 0);

-- What accounts are told of things that the operator did to them.
CREATE TABLE notices (
    id      BIGINT NOT NULL PRIMARY KEY,
    account TEXT COLLATE "binary" NOT NULL,
    at      BIGINT NOT NULL,
    kind    TEXT NOT NULL,
    prefix  TEXT NOT NULL,
    reason  TEXT NOT NULL
);
CREATE INDEX notices_of ON notices (account, id);
