-- +goose Up
INSERT INTO sequences (name, value) VALUES ('application', 500000000);
INSERT INTO sequences (name, value) VALUES ('code_event', 0);
-- The first counter that was never given out: never a sequence of the
-- database, whose numbers come back after a rollback or get lost.
INSERT INTO sequences (name, value) VALUES ('code_counter', 0);

CREATE TABLE batches (
    id         BIGINT NOT NULL PRIMARY KEY,
    account    TEXT COLLATE "binary" NOT NULL,
    isv        TEXT COLLATE "binary" NOT NULL,
    codes      BIGINT NOT NULL,
    start      BIGINT NOT NULL UNIQUE,
    prefix     TEXT NOT NULL,
    version    TEXT NOT NULL,
    segment    BIGINT NOT NULL,
    first_code TEXT NOT NULL,
    first_text TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (account, isv)
);

-- What happened to codes: one row a call, whatever its size.
CREATE TABLE code_events (
    seq       BIGINT NOT NULL PRIMARY KEY,
    batch     BIGINT NOT NULL,
    did       TEXT NOT NULL,
    first_idx BIGINT NOT NULL,
    last_idx  BIGINT NOT NULL,
    codes     TEXT NOT NULL, -- the set: gaps and lengths
    binding   TEXT NOT NULL, -- JSON, activations only
    at        BIGINT NOT NULL,
    from_at   BIGINT NOT NULL,
    actor     TEXT NOT NULL,
    rid       TEXT NOT NULL,
    note      TEXT NOT NULL
);
CREATE INDEX code_events_of ON code_events (batch, seq);

CREATE TABLE tickets (
    hash        TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    batch       BIGINT NOT NULL,
    idx         BIGINT NOT NULL,
    owner_id    TEXT NOT NULL,
    appid       TEXT NOT NULL,
    app_user_id TEXT NOT NULL,
    scanned_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL
);
CREATE INDEX tickets_expiring ON tickets (expires_at);

CREATE TABLE logins (
    hash       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    appid      TEXT NOT NULL,
    openid     TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    used       BIGINT NOT NULL
);
CREATE INDEX logins_expiring ON logins (expires_at);
