-- One text for SQLite and PostgreSQL: times are Unix milliseconds, flags are
-- 0 or 1, lists are JSON, binary values are text. A text that is compared or
-- sorted has the collation "binary", so that both databases compare bytes and
-- an index does not depend on the language tables of the operating system.
-- SQLite has it built in, postgres.go makes it.

-- +goose Up
CREATE TABLE meta (
    name  TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- Keys that seal and hash, themselves sealed by the master key.
CREATE TABLE vault_keys (
    name   TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    sealed TEXT NOT NULL
);

-- Seeds that were applied, by the hash of their content.
CREATE TABLE seeds (
    hash TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    at   BIGINT NOT NULL
);

CREATE TABLE scan_keys (
    hash       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    name       TEXT COLLATE "binary" NOT NULL UNIQUE,
    namespace  TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE accounts (
    appid           TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    kind            TEXT NOT NULL,
    name            TEXT NOT NULL,
    subject         TEXT NOT NULL,
    certified       BIGINT NOT NULL,
    versions        TEXT NOT NULL,
    jump_open       BIGINT NOT NULL,
    features        TEXT NOT NULL,
    members         TEXT NOT NULL,
    message_url     TEXT NOT NULL,
    ip_allowlist    TEXT NOT NULL,
    secret_hash     TEXT NOT NULL,
    secret_frozen   BIGINT NOT NULL,
    marketcode_key  TEXT NOT NULL,
    confirm_name    TEXT NOT NULL,
    confirm_content TEXT NOT NULL,
    created_at      BIGINT NOT NULL
);

CREATE TABLE links (
    service      TEXT COLLATE "binary" NOT NULL,
    mini_program TEXT COLLATE "binary" NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (service, mini_program)
);

CREATE TABLE components (
    appid            TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    secret_hash      TEXT NOT NULL,
    message_token    TEXT NOT NULL,
    encoding_aes_key TEXT NOT NULL,
    event_url        TEXT NOT NULL,
    ip_allowlist     TEXT NOT NULL,
    redirect_hosts   TEXT NOT NULL,
    created_at       BIGINT NOT NULL
);

CREATE TABLE grants (
    component       TEXT COLLATE "binary" NOT NULL,
    appid           TEXT COLLATE "binary" NOT NULL,
    permission_sets TEXT NOT NULL,
    PRIMARY KEY (component, appid)
);

CREATE TABLE access_tokens (
    hash       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    appid      TEXT COLLATE "binary" NOT NULL,
    series     TEXT COLLATE "binary" NOT NULL,
    sealed     TEXT NOT NULL,
    forced     BIGINT NOT NULL,
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    cut_at     BIGINT NOT NULL -- 0 = not replaced
);
CREATE INDEX access_tokens_of ON access_tokens (appid, series, issued_at);

CREATE TABLE counters (
    appid TEXT COLLATE "binary" NOT NULL,
    what  TEXT COLLATE "binary" NOT NULL,
    day   BIGINT NOT NULL,
    used  BIGINT NOT NULL,
    PRIMARY KEY (appid, what, day)
);

-- Numbers that are given out in the order of commits: the row is locked until
-- the transaction ends.
CREATE TABLE sequences (
    name  TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO sequences (name, value) VALUES ('change', 0);

CREATE TABLE rules (
    id           BIGINT NOT NULL PRIMARY KEY, -- the sequence number of the change that added it
    key          TEXT COLLATE "binary" NOT NULL UNIQUE,
    kind         TEXT COLLATE "binary" NOT NULL,
    owner        TEXT COLLATE "binary" NOT NULL,
    target       TEXT COLLATE "binary" NOT NULL,
    prefix       TEXT NOT NULL,
    path         TEXT NOT NULL,
    occupy       BIGINT NOT NULL,
    open_version BIGINT NOT NULL,
    test_links   TEXT NOT NULL,
    published    BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    changed_at   BIGINT NOT NULL,
    published_at BIGINT NOT NULL, -- 0 = never
    -- Where explain looks for neighbours.
    host         TEXT COLLATE "binary" NOT NULL,
    segment      TEXT COLLATE "binary" NOT NULL,
    link_path    TEXT COLLATE "binary" NOT NULL
);
CREATE INDEX rules_of ON rules (owner, id);
CREATE INDEX rules_opening ON rules (target, kind);
CREATE INDEX rules_near ON rules (host, segment);
CREATE INDEX rules_on_path ON rules (link_path);

CREATE TABLE rule_changes (
    seq   BIGINT NOT NULL PRIMARY KEY,
    at    BIGINT NOT NULL,
    actor TEXT NOT NULL,
    rid   TEXT COLLATE "binary" NOT NULL,
    did   TEXT NOT NULL,
    key   TEXT COLLATE "binary" NOT NULL,
    owner TEXT COLLATE "binary" NOT NULL,
    rule  TEXT NOT NULL -- JSON: the rule after the change, for a delete before it
);
CREATE INDEX rule_changes_of ON rule_changes (key, seq);

CREATE TABLE publishes (
    owner TEXT COLLATE "binary" NOT NULL,
    key   TEXT COLLATE "binary" NOT NULL,
    at    BIGINT NOT NULL
);
CREATE INDEX publishes_of ON publishes (owner, at);

CREATE TABLE domains (
    host   TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    status TEXT NOT NULL,
    at     BIGINT NOT NULL
);

-- Checks of verification files, by the call that wanted them.
CREATE TABLE confirmations (
    rid    TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    at     BIGINT NOT NULL,
    owner  TEXT COLLATE "binary" NOT NULL,
    prefix TEXT NOT NULL,
    url    TEXT NOT NULL,
    ok     BIGINT NOT NULL,
    reason TEXT NOT NULL,
    steps  TEXT NOT NULL
);
CREATE INDEX confirmations_at ON confirmations (at);
