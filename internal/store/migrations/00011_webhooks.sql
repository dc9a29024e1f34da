-- +goose Up
-- The address that opens a Mini Program from a browser.
ALTER TABLE accounts ADD COLUMN url_scheme TEXT NOT NULL DEFAULT '';

-- Who is told of scans and alarms.
INSERT INTO sequences (name, value) VALUES ('webhook', 0), ('delivery', 0);
CREATE TABLE webhooks (
    id         BIGINT NOT NULL PRIMARY KEY,
    url        TEXT NOT NULL,
    secret     TEXT NOT NULL, -- sealed
    wanted     TEXT NOT NULL, -- JSON: which codes, rules and alarms
    enabled    BIGINT NOT NULL,
    scans_from  BIGINT NOT NULL, -- positions: only what came after
    alarms_from BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- How far the log of scans and the alarms were read.
CREATE TABLE webhook_readers (
    name     TEXT COLLATE "binary" NOT NULL PRIMARY KEY, -- scans or alarms
    position BIGINT NOT NULL
);

-- What is to be sent and what became of it.
CREATE TABLE deliveries (
    id           BIGINT NOT NULL PRIMARY KEY,
    webhook      BIGINT NOT NULL,
    event        TEXT COLLATE "binary" NOT NULL, -- the receiver knows by it what came twice
    body         TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    attempts     BIGINT NOT NULL,
    next_at      BIGINT NOT NULL, -- 0 = never again
    sent_at      BIGINT NOT NULL,
    status       BIGINT NOT NULL, -- of the last answer; 0 = none
    fault        TEXT NOT NULL,
    delivered_at BIGINT NOT NULL, -- 0 = not delivered
    UNIQUE (webhook, event)
);
CREATE INDEX deliveries_due ON deliveries (webhook, next_at) WHERE next_at > 0;
CREATE INDEX deliveries_turn ON deliveries (webhook, id, next_at) WHERE next_at > 0; -- whose turn it is
CREATE INDEX deliveries_done ON deliveries (created_at) WHERE next_at = 0;

-- The nightly look at verification files: a row for each directory of an
-- owner, and one without an owner that says when to look for new directories.
CREATE TABLE rechecks (
    owner      TEXT COLLATE "binary" NOT NULL,
    directory  TEXT COLLATE "binary" NOT NULL,
    prefix     TEXT NOT NULL, -- of one of the rules there
    checked_at BIGINT NOT NULL, -- 0 = not yet
    ok         BIGINT NOT NULL,
    reason     TEXT NOT NULL,
    since      BIGINT NOT NULL, -- of the first failure in a row; 0 = it is in place
    next_at    BIGINT NOT NULL,
    PRIMARY KEY (owner, directory)
);
CREATE INDEX rechecks_due ON rechecks (next_at);
CREATE INDEX rechecks_failing ON rechecks (since) WHERE since > 0;
