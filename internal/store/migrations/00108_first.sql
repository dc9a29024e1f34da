-- The schema of 0.1.0. Builds from before it have lower numbers, and are refused (store/migrate.go).
--
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
    hash       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    applied_at BIGINT NOT NULL
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
    created_at      BIGINT NOT NULL,
    -- The address that opens a Mini Program from a browser.
    url_scheme      TEXT NOT NULL DEFAULT '',
    options         TEXT NOT NULL DEFAULT '{}', -- what a platform may set: name -> value
    pages           TEXT NOT NULL DEFAULT '[]', -- of the Mini Program; [] = nobody said
    -- The open-platform account that it is bound to, whose unionids its users have; '' = none.
    open_platform   TEXT NOT NULL DEFAULT ''
);

CREATE TABLE links (
    service      TEXT COLLATE "binary" NOT NULL,
    mini_program TEXT COLLATE "binary" NOT NULL,
    created_at   BIGINT NOT NULL,
    -- 1 linked, 2 and 12 waiting for one side, 3 refused.
    status       BIGINT NOT NULL DEFAULT 1,
    unlinking    BIGINT NOT NULL DEFAULT 0,
    notify_users BIGINT NOT NULL DEFAULT 0,
    show_profile BIGINT NOT NULL DEFAULT 0,
    at_once      BIGINT NOT NULL DEFAULT 0, -- 1 = no administrator was asked
    PRIMARY KEY (service, mini_program)
);
CREATE INDEX idx_links_mini_program_status ON links (mini_program, status);

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
    refresh_token   TEXT NOT NULL DEFAULT '', -- sealed
    granted_at      BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (component, appid)
);
CREATE INDEX idx_grants_appid_component ON grants (appid, component);
CREATE INDEX idx_grants_component_granted_at_appid ON grants (component, granted_at, appid);

CREATE TABLE access_tokens (
    hash          TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    appid         TEXT COLLATE "binary" NOT NULL,
    series        TEXT COLLATE "binary" NOT NULL,
    sealed        TEXT NOT NULL,
    forced        BIGINT NOT NULL,
    issued_at     BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    superseded_at BIGINT NOT NULL, -- 0 = not replaced
    -- The platform that calls for the account; '' = the account itself.
    component     TEXT COLLATE "binary" NOT NULL DEFAULT ''
);
CREATE INDEX idx_access_tokens_appid_series_issued_at ON access_tokens (appid, series, issued_at);

CREATE TABLE counters (
    appid   TEXT COLLATE "binary" NOT NULL,
    counter TEXT COLLATE "binary" NOT NULL,
    day     BIGINT NOT NULL,
    value   BIGINT NOT NULL,
    PRIMARY KEY (appid, counter, day)
);

-- Numbers that are given out in the order of commits: the row is locked until the transaction ends.
-- Never a sequence of the database, whose numbers come back after a rollback or get lost.
CREATE TABLE sequences (
    name  TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO sequences (name, value) VALUES
    ('alarm', 0),
    ('application', 500000000), -- the last id of an application
    ('call', 0),
    ('call_gone', 0), -- the number of the last call that is forgotten
    ('code_counter', 0), -- the first counter that was never given out
    ('code_event', 0),
    ('delivery', 0),
    ('message', 0),
    ('notice', 0),
    ('package', 0),
    ('push', 0),
    ('scan', 0),
    ('scan_ask', 0),
    ('webhook', 0);

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
CREATE INDEX idx_rules_owner_id ON rules (owner, id);
-- An explanation reads the oldest rules of a path, not all of them.
CREATE INDEX idx_rules_link_path_id ON rules (link_path, id);
CREATE INDEX idx_rules_owner_target_id ON rules (owner, target, id) WHERE kind = 'service_rule';
-- Rules that open a Mini Program, oldest first.
CREATE INDEX idx_rules_target_id ON rules (target, id);
-- Rules of an owner in a directory, as the verification file of it is asked for: "%23"
-- and "#" are one.
CREATE INDEX idx_rules_host_owner_directory ON rules (host, owner, (REPLACE(RTRIM(link_path, REPLACE(link_path, '/', '')), '%23', '#')), (SUBSTR(key, 1, 5)));

CREATE TABLE publishes (
    owner      TEXT COLLATE "binary" NOT NULL,
    key        TEXT COLLATE "binary" NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX idx_publishes_owner_created_at ON publishes (owner, created_at);

CREATE TABLE domains (
    host       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    status     TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Checks of verification files, by the call that wanted them.
CREATE TABLE confirmations (
    rid        TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    owner      TEXT COLLATE "binary" NOT NULL,
    prefix     TEXT NOT NULL,
    url        TEXT NOT NULL,
    ok         BIGINT NOT NULL,
    reason     TEXT NOT NULL,
    steps      TEXT NOT NULL
);
CREATE INDEX idx_confirmations_created_at ON confirmations (created_at);
CREATE INDEX idx_confirmations_owner_created_at ON confirmations (owner, created_at);

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
    -- Codes for trials: they never activate.
    proof      BIGINT NOT NULL DEFAULT 0,
    -- How the texts are written; '' = prefix and secret. Decision 68.
    template   TEXT NOT NULL DEFAULT '',
    UNIQUE (account, isv)
);

-- What happened to codes: one row a call, whatever its size.
CREATE TABLE code_events (
    seq         BIGINT NOT NULL PRIMARY KEY,
    batch       BIGINT NOT NULL,
    action      TEXT NOT NULL,
    first_idx   BIGINT NOT NULL,
    last_idx    BIGINT NOT NULL,
    codes       TEXT NOT NULL, -- the set: gaps and lengths
    binding     TEXT NOT NULL, -- JSON, activations only
    occurred_at BIGINT NOT NULL,
    from_at     BIGINT NOT NULL,
    actor       TEXT NOT NULL,
    rid         TEXT NOT NULL,
    note        TEXT NOT NULL
);
CREATE INDEX idx_code_events_batch_seq ON code_events (batch, seq);
-- Events by the smallest block of 1, 16, 256, … codes that holds all of theirs: those
-- around a code are in one block of each size. store/codes.go asks with the same words.
CREATE INDEX idx_code_events_batch_block_seq ON code_events (batch, (CASE
    WHEN first_idx = last_idx THEN first_idx * 16
    WHEN first_idx >> 4 = last_idx >> 4 THEN (first_idx >> 4) * 16 + 1
    WHEN first_idx >> 8 = last_idx >> 8 THEN (first_idx >> 8) * 16 + 2
    WHEN first_idx >> 12 = last_idx >> 12 THEN (first_idx >> 12) * 16 + 3
    WHEN first_idx >> 16 = last_idx >> 16 THEN (first_idx >> 16) * 16 + 4
    WHEN first_idx >> 20 = last_idx >> 20 THEN (first_idx >> 20) * 16 + 5
    WHEN first_idx >> 24 = last_idx >> 24 THEN (first_idx >> 24) * 16 + 6
    WHEN first_idx >> 28 = last_idx >> 28 THEN (first_idx >> 28) * 16 + 7
    ELSE 8 END), seq);

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
CREATE INDEX idx_tickets_expires_at ON tickets (expires_at);

CREATE TABLE logins (
    hash       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    appid      TEXT NOT NULL,
    openid     TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    used       BIGINT NOT NULL,
    unionid TEXT NOT NULL DEFAULT ''
);
CREATE INDEX idx_logins_expires_at ON logins (expires_at);

CREATE TABLE component_tickets (
    component TEXT COLLATE "binary" NOT NULL,
    hash      TEXT COLLATE "binary" NOT NULL,
    issued_at BIGINT NOT NULL,
    PRIMARY KEY (component, hash)
);
CREATE INDEX idx_component_tickets_component_issued_at ON component_tickets (component, issued_at);

-- Pre-authorisation codes and authorisation codes.
CREATE TABLE component_codes (
    hash       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    kind       TEXT NOT NULL,
    component  TEXT COLLATE "binary" NOT NULL,
    appid      TEXT NOT NULL, -- authorisation codes only
    expires_at BIGINT NOT NULL,
    used_at    BIGINT NOT NULL -- 0 = not yet
);
CREATE INDEX idx_component_codes_expires_at ON component_codes (expires_at);

-- What was, is and will be sent to the event URLs of platforms.
CREATE TABLE pushes (
    id         BIGINT NOT NULL PRIMARY KEY,
    component  TEXT COLLATE "binary" NOT NULL,
    info_type  TEXT NOT NULL,
    appid      TEXT NOT NULL,
    url        TEXT NOT NULL,
    sealed     TEXT NOT NULL, -- the message while it may have to be sent
    shown      TEXT NOT NULL, -- the same without its secrets
    order_key  TEXT COLLATE "binary" NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    next_at    BIGINT NOT NULL, -- 0 = nothing more is sent
    delivered  BIGINT NOT NULL,
    sent_at    BIGINT NOT NULL,
    status     BIGINT NOT NULL,
    response   TEXT NOT NULL,
    error      TEXT NOT NULL
);
CREATE INDEX idx_pushes_component_id ON pushes (component, id);
CREATE INDEX idx_pushes_component_next_at ON pushes (component, next_at) WHERE next_at > 0;

-- Parametric QR codes of service accounts.
CREATE TABLE qrcodes (
    code       TEXT COLLATE "binary" NOT NULL PRIMARY KEY, -- what follows http://weixin.qq.com/q/
    ticket     TEXT COLLATE "binary" NOT NULL UNIQUE,
    account    TEXT COLLATE "binary" NOT NULL,
    action     TEXT COLLATE "binary" NOT NULL,
    scene      TEXT COLLATE "binary" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL -- 0 = permanent
);
CREATE UNIQUE INDEX idx_qrcodes_account_action_scene ON qrcodes (account, action, scene) WHERE expires_at = 0;
CREATE INDEX idx_qrcodes_account_expires_at ON qrcodes (account, expires_at);

-- Who scanned a code of a service account and so follows it.
CREATE TABLE followers (
    account TEXT COLLATE "binary" NOT NULL,
    openid  TEXT COLLATE "binary" NOT NULL,
    since   BIGINT NOT NULL,
    PRIMARY KEY (account, openid)
);

-- Events that wait to be sent to the message URLs of accounts.
CREATE TABLE messages (
    id           BIGINT NOT NULL PRIMARY KEY,
    account      TEXT COLLATE "binary" NOT NULL,
    body         TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    attempts     BIGINT NOT NULL,
    next_at      BIGINT NOT NULL,
    -- The tables of rows that wait to be sent have one shape.
    event        TEXT NOT NULL DEFAULT '',
    sent_at      BIGINT NOT NULL DEFAULT 0,
    status       BIGINT NOT NULL DEFAULT 0,
    error        TEXT NOT NULL DEFAULT '',
    delivered_at BIGINT NOT NULL DEFAULT 0,
    appid        TEXT NOT NULL DEFAULT '',
    shown        TEXT NOT NULL DEFAULT '',
    order_key    TEXT COLLATE "binary" NOT NULL DEFAULT '',
    url          TEXT NOT NULL DEFAULT '',
    response     TEXT NOT NULL DEFAULT ''
);
CREATE INDEX idx_messages_account_id ON messages (account, id);

-- Every change, in the order of commits: what other nodes follow, the audit
-- log, and the history of rules. hash chains a row to the one before it.
CREATE TABLE changes (
    seq         BIGINT NOT NULL PRIMARY KEY,
    occurred_at BIGINT NOT NULL,
    kind        TEXT COLLATE "binary" NOT NULL,
    key         TEXT COLLATE "binary" NOT NULL,
    actor       TEXT COLLATE "binary" NOT NULL,
    via         TEXT NOT NULL, -- the third-party platform that called for the actor
    rid         TEXT COLLATE "binary" NOT NULL,
    action      TEXT NOT NULL,
    detail      TEXT NOT NULL, -- JSON, never with a secret in it
    hash        TEXT NOT NULL
);
CREATE INDEX idx_changes_kind_key_seq ON changes (kind, key, seq);
-- The audit log by kind or by actor.
CREATE INDEX idx_changes_kind_seq ON changes (kind, seq);
CREATE INDEX idx_changes_actor_seq ON changes (actor, seq);

-- The last change. The row is locked until the commit, so numbers are in the
-- order of commits and have no gap.
CREATE TABLE change_head (
    id   BIGINT NOT NULL PRIMARY KEY, -- 1
    seq  BIGINT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO change_head (id, seq, hash) VALUES (1, 0, '');

-- The ledger of scans, in the order of their commits. A day is one of the time
-- in the id, so that a scan that arrives twice meets itself, and whole days can
-- be dropped. With the embedded database the ledger is in files beside it, and
-- this table is empty.
CREATE TABLE scan_events (
    seq        BIGINT NOT NULL,
    day        BIGINT NOT NULL, -- since 1970-01-01 UTC
    id         TEXT COLLATE "binary" NOT NULL,
    at         BIGINT NOT NULL,
    user_hash  TEXT COLLATE "binary" NOT NULL,
    source     TEXT NOT NULL,
    client     TEXT NOT NULL,
    network    TEXT NOT NULL,
    region     TEXT NOT NULL,
    action     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    reason     TEXT NOT NULL,
    app        TEXT NOT NULL,
    version    TEXT NOT NULL,
    rule       BIGINT NOT NULL,
    batch      BIGINT NOT NULL,
    idx        BIGINT NOT NULL,
    activation BIGINT NOT NULL,
    link       TEXT NOT NULL,
    PRIMARY KEY (day, id)
)
-- postgres: PARTITION BY RANGE (day)
;
CREATE INDEX idx_scan_events_seq ON scan_events (seq);
-- What has no day of its own.
-- postgres: CREATE TABLE scan_events_other PARTITION OF scan_events DEFAULT;

-- How far the journal of each node was brought here; and under the name
-- "ledger", the id of the ledger.
CREATE TABLE ledger_nodes (
    node     TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL,
    scan     TEXT NOT NULL
);

-- Users who were erased, for events of theirs that are on the way.
CREATE TABLE ledger_erasures (
    user_hash TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    up_to     BIGINT NOT NULL
);

-- How far the counting of scans is: one row.
CREATE TABLE statistics_state (
    id             BIGINT NOT NULL PRIMARY KEY,
    ledger         TEXT NOT NULL,
    position       BIGINT NOT NULL,
    scan           TEXT NOT NULL,
    scan_at        BIGINT NOT NULL,
    scans          BIGINT NOT NULL,
    users_position BIGINT NOT NULL,
    zone           BIGINT NOT NULL, -- hours east of UTC
    forgotten      BIGINT NOT NULL,
    turned         BIGINT NOT NULL,
    -- mark is the scan that stands at position, '' = not known. held is how many scans
    -- of the ledger are counted, lacking how many counted ones no ledger has any more.
    mark           TEXT NOT NULL DEFAULT '',
    held           BIGINT NOT NULL DEFAULT 0,
    lacking        BIGINT NOT NULL DEFAULT 0,
    -- Counts of calendar months: per 4, and 6 of all rules together; sketches of users of a
    -- month under the day 2199023255552 (2^41) + months since January 1970.
    -- Months before `months` are rolled up; rolling is how far that of `months` is. Of hours
    -- and days from before two moments, hours since 1970 in UTC and days in the zone, rows
    -- are removed. Days before seam may be those of a former zone.
    months         BIGINT NOT NULL DEFAULT 0,
    rolling        TEXT NOT NULL DEFAULT '',
    hours_from     BIGINT NOT NULL DEFAULT 0,
    days_from      BIGINT NOT NULL DEFAULT 0,
    seam           BIGINT NOT NULL DEFAULT 0
);

-- The combinations that scans are counted by, beside the rule. The number is
-- a hash.
CREATE TABLE statistics_tuples (
    id       BIGINT NOT NULL PRIMARY KEY,
    activity TEXT COLLATE "binary" NOT NULL,
    brand    TEXT COLLATE "binary" NOT NULL,
    product  TEXT COLLATE "binary" NOT NULL,
    batch    BIGINT NOT NULL,
    app      TEXT COLLATE "binary" NOT NULL,
    source   TEXT COLLATE "binary" NOT NULL,
    result   TEXT COLLATE "binary" NOT NULL,
    region   TEXT COLLATE "binary" NOT NULL
)
-- sqlite: WITHOUT ROWID
;
CREATE INDEX idx_statistics_tuples_activity ON statistics_tuples (activity);
CREATE INDEX idx_statistics_tuples_brand ON statistics_tuples (brand);
CREATE INDEX idx_statistics_tuples_product ON statistics_tuples (product);
CREATE INDEX idx_statistics_tuples_batch ON statistics_tuples (batch);

-- Scans by hour (per 0) and day (per 1) of each rule; of all rules together
-- per 2 and 3, with rule 0. The primary key is the order in the file.
CREATE TABLE statistics_counts (
    per    BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    rule   BIGINT NOT NULL,
    tuple  BIGINT NOT NULL,
    scans  BIGINT NOT NULL,
    firsts BIGINT NOT NULL,
    PRIMARY KEY (per, at, rule, tuple)
)
-- sqlite: WITHOUT ROWID
;

-- The same, per 0 and 1, for each value of a dimension alone; not of the rule.
CREATE TABLE statistics_sums (
    per    BIGINT NOT NULL,
    dim    BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    value  TEXT COLLATE "binary" NOT NULL,
    scans  BIGINT NOT NULL,
    firsts BIGINT NOT NULL,
    PRIMARY KEY (per, dim, at, value)
)
-- sqlite: WITHOUT ROWID
;

CREATE TABLE statistics_users (
    day    BIGINT NOT NULL,
    dim    BIGINT NOT NULL,
    value  TEXT COLLATE "binary" NOT NULL,
    users  BIGINT NOT NULL,
    sketch TEXT NOT NULL,
    erased BIGINT NOT NULL,
    PRIMARY KEY (dim, day, value)
);

-- Scans that found nothing, by host and first path segment.
CREATE TABLE statistics_misses (
    hour  BIGINT NOT NULL,
    place TEXT COLLATE "binary" NOT NULL,
    scans BIGINT NOT NULL,
    PRIMARY KEY (hour, place)
);

CREATE TABLE code_counts (
    batch    BIGINT NOT NULL,
    idx      BIGINT NOT NULL,
    scans    BIGINT NOT NULL,
    users    BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at  BIGINT NOT NULL,
    score    BIGINT NOT NULL,
    state    TEXT NOT NULL,
    -- What is known of the scans of a code since its alarm was taken back.
    since    TEXT NOT NULL DEFAULT '', -- JSON; '' = none
    PRIMARY KEY (batch, idx)
);

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
CREATE INDEX idx_code_scans_first_user ON code_scans (first_user) WHERE first_user <> '';

-- Calls of the last second, where several nodes count together. On PostgreSQL
-- the table is made UNLOGGED: a crash may forget a second of calls, and no call
-- waits for the disk.
CREATE TABLE limits (
    key   TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    times TEXT NOT NULL, -- microseconds by the database's clock, as {1,2,3}
    at    BIGINT NOT NULL, -- of the last call, allowed or not
    ok    BIGINT NOT NULL -- 1 = it was allowed
);

-- Who is told of scans and alarms.
CREATE TABLE webhooks (
    id          BIGINT NOT NULL PRIMARY KEY,
    url         TEXT NOT NULL,
    secret      TEXT NOT NULL, -- sealed
    wanted      TEXT NOT NULL, -- JSON: which codes, rules and alarms
    enabled     BIGINT NOT NULL,
    scans_from  BIGINT NOT NULL, -- positions: only what came after
    alarms_from BIGINT NOT NULL,
    created_at  BIGINT NOT NULL
);

-- How far the log of scans and the alarms were read.
CREATE TABLE webhook_readers (
    name     TEXT COLLATE "binary" NOT NULL PRIMARY KEY, -- scans or alarms
    position BIGINT NOT NULL,
    -- The scan that stands at the position, with the position; '?' = the first one that was
    -- not told is to be looked for, '' = nobody knows.
    mark     TEXT NOT NULL DEFAULT ''
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
    error        TEXT NOT NULL,
    delivered_at BIGINT NOT NULL, -- 0 = not delivered
    appid        TEXT NOT NULL DEFAULT '',
    shown        TEXT NOT NULL DEFAULT '',
    order_key    TEXT COLLATE "binary" NOT NULL DEFAULT '', -- rows with the same one are sent in order; '' = in any
    url          TEXT NOT NULL DEFAULT '',
    response     TEXT NOT NULL DEFAULT '',
    UNIQUE (webhook, event)
);
CREATE INDEX idx_deliveries_webhook_next_at ON deliveries (webhook, next_at) WHERE next_at > 0;
CREATE INDEX idx_deliveries_webhook_id_next_at_order_key ON deliveries (webhook, id, next_at, order_key) WHERE next_at > 0; -- whose turn it is
CREATE INDEX idx_deliveries_created_at_done ON deliveries (created_at) WHERE next_at = 0;
CREATE INDEX idx_deliveries_webhook_order_key_id ON deliveries (webhook, order_key, id) WHERE next_at > 0 AND order_key <> '';
-- Deliveries of a webhook, newest first; and those that were given up.
CREATE INDEX idx_deliveries_webhook_id ON deliveries (webhook, id);
CREATE INDEX idx_deliveries_webhook_id_dead ON deliveries (webhook, id) WHERE next_at = 0 AND delivered_at = 0;
CREATE INDEX idx_deliveries_id_dead ON deliveries (id) WHERE next_at = 0 AND delivered_at = 0;

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
CREATE INDEX idx_rechecks_next_at ON rechecks (next_at);
-- Failing checks of verification files in the order of the list.
CREATE INDEX idx_rechecks_owner_directory ON rechecks (owner, directory) WHERE since > 0;

-- What the scans of a code gave rise to: of a code and a kind one alarm at most stands.
CREATE TABLE alarms (
    id              BIGINT NOT NULL PRIMARY KEY,
    kind            TEXT COLLATE "binary" NOT NULL,
    batch           BIGINT NOT NULL,
    idx             BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    scan            TEXT NOT NULL,
    score           BIGINT NOT NULL,
    details         TEXT NOT NULL, -- JSON
    acknowledged_at BIGINT NOT NULL, -- 0 = not acknowledged
    acknowledged_by TEXT NOT NULL,
    -- An alarm can be taken back, and its code be alarmed again: of a code and a kind one alarm at most stands.
    dismissed_at    BIGINT NOT NULL DEFAULT 0, -- 0 = it stands
    dismissed_by    TEXT NOT NULL DEFAULT '',
    note            TEXT NOT NULL DEFAULT '', -- why
    dismissal       BIGINT NOT NULL DEFAULT 0 -- its number, of the sequence of alarms; 0 = it stands
);
CREATE INDEX idx_alarms_acknowledged_at_id ON alarms (acknowledged_at, id);
CREATE UNIQUE INDEX idx_alarms_kind_batch_idx ON alarms (kind, batch, idx) WHERE dismissed_at = 0;
CREATE INDEX idx_alarms_batch_idx ON alarms (batch, idx);
CREATE INDEX idx_alarms_dismissal ON alarms (dismissal) WHERE dismissal > 0;

-- What accounts are told of things that the operator did to them.
CREATE TABLE notices (
    id         BIGINT NOT NULL PRIMARY KEY,
    account    TEXT COLLATE "binary" NOT NULL,
    created_at BIGINT NOT NULL,
    kind       TEXT NOT NULL,
    prefix     TEXT NOT NULL,
    reason     TEXT NOT NULL
);
CREATE INDEX idx_notices_account_id ON notices (account, id);

-- Which scans of each node's journal are counted, for a stream that is lost: all
-- up to a position, and those of the set.
CREATE TABLE scan_origins (
    node   TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    up_to  BIGINT NOT NULL,
    beyond TEXT NOT NULL
);

-- The nodes whose journals may hold scans that are not in the log of all nodes.
-- told is the last question that a node answered by bringing all that it had.
CREATE TABLE scan_nodes (
    node         TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    name         TEXT NOT NULL,
    told         BIGINT NOT NULL,
    ended        BIGINT NOT NULL, -- position of its last scan
    shipped      BIGINT NOT NULL, -- up to where they were brought
    stopped      BIGINT NOT NULL, -- 1 = it ended in order
    last_seen_at BIGINT NOT NULL,
    -- How far the memory of a node was behind the log of changes when it last said so, which it does once a minute.
    lag_changes  BIGINT NOT NULL DEFAULT 0, -- changes that it had not followed
    level_at     BIGINT NOT NULL DEFAULT 0, -- when it last held every change
    lag_at       BIGINT NOT NULL DEFAULT 0 -- when it said so; 0 = it never did
);

-- The logs of scans that this database knows. here is 1 for the one in its own
-- table, or in the files beside it. position is up to where one is counted that was
-- left, last the last scan that was brought to it and is counted elsewhere, '' = none.
CREATE TABLE ledgers (
    id       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    here     BIGINT NOT NULL,
    position BIGINT NOT NULL,
    last     TEXT NOT NULL,
    -- Up to where a ledger that is left was read: whoever comes back to it goes on there. folded: by the sketches of
    -- distinct users; told and mark: by the reader of webhooks, as in webhook_readers. -1 = nobody knows.
    folded   BIGINT NOT NULL DEFAULT -1,
    told     BIGINT NOT NULL DEFAULT -1,
    mark     TEXT NOT NULL DEFAULT ''
);

-- How many there are, so that nobody counts them row by row. Triggers keep these tables with every change,
-- whoever makes it.

-- Rules of an owner (target ''), of a service account that open one Mini Program, and
-- of all service accounts that open it (owner '').
CREATE TABLE rule_counts (
    owner  TEXT COLLATE "binary" NOT NULL,
    target TEXT COLLATE "binary" NOT NULL,
    n      BIGINT NOT NULL, -- no row = 0
    PRIMARY KEY (owner, target)
-- postgres: );
-- sqlite: ) WITHOUT ROWID;

-- The same rules of an owner in pieces of about 1,024: those whose id is first or more,
-- and less than first of the next piece.
CREATE TABLE rule_pieces (
    owner  TEXT COLLATE "binary" NOT NULL,
    target TEXT COLLATE "binary" NOT NULL,
    first  BIGINT NOT NULL,
    n      BIGINT NOT NULL,
    PRIMARY KEY (owner, target, first)
-- postgres: );
-- sqlite: ) WITHOUT ROWID;

-- Publishes of an owner in an hour since 1970. Months begin with an hour in every zone.
CREATE TABLE publish_counts (
    owner TEXT COLLATE "binary" NOT NULL,
    hour  BIGINT NOT NULL,
    n     BIGINT NOT NULL,
    PRIMARY KEY (owner, hour)
-- postgres: );
-- sqlite: ) WITHOUT ROWID;

-- New rules have the highest ids, so they belong into the last piece while it has room,
-- then they begin one. Others belong into the piece that their ids are in.
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_add AFTER INSERT ON rules BEGIN
-- sqlite:     INSERT INTO rule_counts (owner, target, n) VALUES (NEW.owner, '', 1)
-- sqlite:         ON CONFLICT (owner, target) DO UPDATE SET n = n + 1;
-- sqlite:     INSERT INTO rule_pieces (owner, target, first, n)
-- sqlite:         VALUES (NEW.owner, '', COALESCE((SELECT CASE WHEN n < 1024 OR EXISTS (SELECT 1 FROM rule_pieces
-- sqlite:             WHERE owner = NEW.owner AND target = '' AND first > NEW.id) THEN first END FROM rule_pieces
-- sqlite:             WHERE owner = NEW.owner AND target = '' AND first <= NEW.id ORDER BY first DESC LIMIT 1), NEW.id), 1)
-- sqlite:         ON CONFLICT (owner, target, first) DO UPDATE SET n = n + 1;
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_add_service AFTER INSERT ON rules WHEN NEW.kind = 'service_rule' BEGIN
-- sqlite:     INSERT INTO rule_counts (owner, target, n) VALUES (NEW.owner, NEW.target, 1), ('', NEW.target, 1)
-- sqlite:         ON CONFLICT (owner, target) DO UPDATE SET n = n + 1;
-- sqlite:     INSERT INTO rule_pieces (owner, target, first, n)
-- sqlite:         VALUES (NEW.owner, NEW.target, COALESCE((SELECT CASE WHEN n < 1024 OR EXISTS (SELECT 1 FROM rule_pieces
-- sqlite:             WHERE owner = NEW.owner AND target = NEW.target AND first > NEW.id) THEN first END FROM rule_pieces
-- sqlite:             WHERE owner = NEW.owner AND target = NEW.target AND first <= NEW.id ORDER BY first DESC LIMIT 1), NEW.id), 1)
-- sqlite:         ON CONFLICT (owner, target, first) DO UPDATE SET n = n + 1;
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_delete AFTER DELETE ON rules BEGIN
-- sqlite:     UPDATE rule_counts SET n = n - 1 WHERE owner = OLD.owner AND target = '';
-- sqlite:     DELETE FROM rule_counts WHERE owner = OLD.owner AND target = '' AND n = 0;
-- sqlite:     UPDATE rule_pieces SET n = n - 1 WHERE owner = OLD.owner AND target = '' AND first =
-- sqlite:         (SELECT MAX(first) FROM rule_pieces WHERE owner = OLD.owner AND target = '' AND first <= OLD.id);
-- sqlite:     DELETE FROM rule_pieces WHERE owner = OLD.owner AND target = '' AND n = 0 AND first =
-- sqlite:         (SELECT MAX(first) FROM rule_pieces WHERE owner = OLD.owner AND target = '' AND first <= OLD.id);
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_delete_service AFTER DELETE ON rules WHEN OLD.kind = 'service_rule' BEGIN
-- sqlite:     UPDATE rule_counts SET n = n - 1 WHERE owner IN (OLD.owner, '') AND target = OLD.target;
-- sqlite:     DELETE FROM rule_counts WHERE owner IN (OLD.owner, '') AND target = OLD.target AND n = 0;
-- sqlite:     UPDATE rule_pieces SET n = n - 1 WHERE owner = OLD.owner AND target = OLD.target AND first =
-- sqlite:         (SELECT MAX(first) FROM rule_pieces WHERE owner = OLD.owner AND target = OLD.target AND first <= OLD.id);
-- sqlite:     DELETE FROM rule_pieces WHERE owner = OLD.owner AND target = OLD.target AND n = 0 AND first =
-- sqlite:         (SELECT MAX(first) FROM rule_pieces WHERE owner = OLD.owner AND target = OLD.target AND first <= OLD.id);
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_target AFTER UPDATE OF target ON rules WHEN OLD.target <> NEW.target BEGIN
-- sqlite:     UPDATE rule_counts SET n = n - 1 WHERE owner IN (OLD.owner, '') AND target = OLD.target;
-- sqlite:     DELETE FROM rule_counts WHERE owner IN (OLD.owner, '') AND target = OLD.target AND n = 0;
-- sqlite:     UPDATE rule_pieces SET n = n - 1 WHERE owner = OLD.owner AND target = OLD.target AND first =
-- sqlite:         (SELECT MAX(first) FROM rule_pieces WHERE owner = OLD.owner AND target = OLD.target AND first <= OLD.id);
-- sqlite:     DELETE FROM rule_pieces WHERE owner = OLD.owner AND target = OLD.target AND n = 0 AND first =
-- sqlite:         (SELECT MAX(first) FROM rule_pieces WHERE owner = OLD.owner AND target = OLD.target AND first <= OLD.id);
-- sqlite:     INSERT INTO rule_counts (owner, target, n) VALUES (NEW.owner, NEW.target, 1), ('', NEW.target, 1)
-- sqlite:         ON CONFLICT (owner, target) DO UPDATE SET n = n + 1;
-- sqlite:     INSERT INTO rule_pieces (owner, target, first, n)
-- sqlite:         VALUES (NEW.owner, NEW.target, COALESCE((SELECT MAX(first) FROM rule_pieces
-- sqlite:             WHERE owner = NEW.owner AND target = NEW.target AND first <= NEW.id), NEW.id), 1)
-- sqlite:         ON CONFLICT (owner, target, first) DO UPDATE SET n = n + 1;
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER publishes_counted AFTER INSERT ON publishes BEGIN
-- sqlite:     INSERT INTO publish_counts (owner, hour, n) VALUES (NEW.owner, NEW.created_at / 3600000, 1)
-- sqlite:         ON CONFLICT (owner, hour) DO UPDATE SET n = n + 1;
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- Rules that are written apart, and shown all at once, are counted when they are shown: the rows that count would be
-- locked until then. Decision 55.
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION rules_counted_add() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     IF current_setting('qrjump.counted', true) = 'apart' THEN
-- postgres:         RETURN NULL;
-- postgres:     END IF;
-- postgres:     INSERT INTO rule_counts AS c (owner, target, n)
-- postgres:         SELECT owner, '', COUNT(*) FROM changed GROUP BY owner
-- postgres:         UNION ALL SELECT owner, target, COUNT(*) FROM changed WHERE kind = 'service_rule' GROUP BY owner, target
-- postgres:         UNION ALL SELECT '', target, COUNT(*) FROM changed WHERE kind = 'service_rule' GROUP BY target
-- postgres:         ORDER BY 1, 2
-- postgres:         ON CONFLICT (owner, target) DO UPDATE SET n = c.n + excluded.n;
-- postgres:     INSERT INTO rule_pieces AS p (owner, target, first, n)
-- postgres:         SELECT owner, target, CASE WHEN piece = 0 THEN COALESCE(last, MIN(id)) ELSE MIN(id) END, COUNT(*) FROM (
-- postgres:             SELECT k.owner, k.target, k.id, l.first AS last,
-- postgres:                 CASE WHEN l.within THEN 0
-- postgres:                     ELSE (COALESCE(l.n, 0) + ROW_NUMBER() OVER (PARTITION BY k.owner, k.target ORDER BY k.id) - 1) / 1024
-- postgres:                 END AS piece
-- postgres:             FROM (SELECT owner, '' AS target, id FROM changed
-- postgres:                 UNION ALL SELECT owner, target, id FROM changed WHERE kind = 'service_rule') AS k
-- postgres:             LEFT JOIN LATERAL (SELECT first, n, EXISTS (SELECT 1 FROM rule_pieces AS later
-- postgres:                     WHERE later.owner = k.owner AND later.target = k.target AND later.first > k.id) AS within
-- postgres:                 FROM rule_pieces WHERE owner = k.owner AND target = k.target AND first <= k.id
-- postgres:                 ORDER BY first DESC LIMIT 1) AS l ON true) AS r
-- postgres:         GROUP BY owner, target, piece, last
-- postgres:         ON CONFLICT (owner, target, first) DO UPDATE SET n = p.n + excluded.n;
-- postgres:     RETURN NULL;
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION rule_less(o TEXT, t TEXT, i BIGINT) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     UPDATE rule_counts SET n = n - 1 WHERE owner = o AND target = t;
-- postgres:     DELETE FROM rule_counts WHERE owner = o AND target = t AND n = 0;
-- postgres:     UPDATE rule_pieces SET n = n - 1 WHERE owner = o AND target = t AND first =
-- postgres:         (SELECT MAX(first) FROM rule_pieces WHERE owner = o AND target = t AND first <= i);
-- postgres:     DELETE FROM rule_pieces WHERE owner = o AND target = t AND n = 0 AND first =
-- postgres:         (SELECT MAX(first) FROM rule_pieces WHERE owner = o AND target = t AND first <= i);
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION rules_counted_delete() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     PERFORM rule_less(OLD.owner, '', OLD.id);
-- postgres:     IF OLD.kind = 'service_rule' THEN
-- postgres:         PERFORM rule_less(OLD.owner, OLD.target, OLD.id), rule_less('', OLD.target, 0);
-- postgres:     END IF;
-- postgres:     RETURN NULL;
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- An import that writes what rules become counts by itself those that open another Mini Program, when it shows them.
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION rules_counted_target() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     IF current_setting('qrjump.moved', true) = 'apart' THEN
-- postgres:         RETURN NULL;
-- postgres:     END IF;
-- postgres:     PERFORM rule_less(OLD.owner, OLD.target, OLD.id), rule_less('', OLD.target, 0);
-- postgres:     INSERT INTO rule_counts AS c (owner, target, n) VALUES (NEW.owner, NEW.target, 1), ('', NEW.target, 1)
-- postgres:         ON CONFLICT (owner, target) DO UPDATE SET n = c.n + 1;
-- postgres:     INSERT INTO rule_pieces AS p (owner, target, first, n)
-- postgres:         VALUES (NEW.owner, NEW.target, COALESCE((SELECT MAX(first) FROM rule_pieces
-- postgres:             WHERE owner = NEW.owner AND target = NEW.target AND first <= NEW.id), NEW.id), 1)
-- postgres:         ON CONFLICT (owner, target, first) DO UPDATE SET n = p.n + 1;
-- postgres:     RETURN NULL;
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION publishes_counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     INSERT INTO publish_counts AS c (owner, hour, n) SELECT owner, created_at / 3600000, COUNT(*) FROM changed
-- postgres:         GROUP BY owner, created_at / 3600000
-- postgres:         ON CONFLICT (owner, hour) DO UPDATE SET n = c.n + excluded.n;
-- postgres:     RETURN NULL;
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- postgres: CREATE TRIGGER rules_counted_add AFTER INSERT ON rules REFERENCING NEW TABLE AS changed
-- postgres:     FOR EACH STATEMENT EXECUTE FUNCTION rules_counted_add();
-- postgres: CREATE TRIGGER rules_counted_delete AFTER DELETE ON rules FOR EACH ROW EXECUTE FUNCTION rules_counted_delete();
-- postgres: CREATE TRIGGER rules_counted_target AFTER UPDATE OF target ON rules FOR EACH ROW WHEN (OLD.target <> NEW.target)
-- postgres:     EXECUTE FUNCTION rules_counted_target();
-- postgres: CREATE TRIGGER publishes_counted AFTER INSERT ON publishes REFERENCING NEW TABLE AS changed
-- postgres:     FOR EACH STATEMENT EXECUTE FUNCTION publishes_counted();

-- The log of calls: many in a row, by the second that their request ids begin with. Rows leave in the
-- order of their numbers.
CREATE TABLE call_blocks (
    seq    BIGINT NOT NULL PRIMARY KEY, -- the number of its last call
    second BIGINT NOT NULL,
    calls  BIGINT NOT NULL, -- how many
    text   TEXT NOT NULL -- a JSON object and a newline for each
);
CREATE INDEX idx_call_blocks_second ON call_blocks (second);

-- Users that came after a large sketch of users was written: a sketch for each time
-- that more came, until they are many.
CREATE TABLE statistics_users_since (
    dim    BIGINT NOT NULL,
    day    BIGINT NOT NULL,
    value  TEXT COLLATE "binary" NOT NULL,
    part   BIGINT NOT NULL,
    sketch TEXT NOT NULL,
    PRIMARY KEY (dim, day, value, part)
);

-- What callers did that the platform may mind: how often, the first and the last call.
CREATE TABLE deviations (
    account   TEXT COLLATE "binary" NOT NULL,
    endpoint  TEXT COLLATE "binary" NOT NULL,
    behaviour TEXT COLLATE "binary" NOT NULL,
    count     BIGINT NOT NULL,
    first_rid TEXT NOT NULL,
    first_at  BIGINT NOT NULL,
    last_rid  TEXT NOT NULL,
    last_at   BIGINT NOT NULL,
    PRIMARY KEY (account, endpoint, behaviour)
);

-- People and programs that may administer, and the browsers in which they are signed in.
CREATE TABLE people (
    name         TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    role         TEXT NOT NULL,
    accounts     TEXT NOT NULL, -- JSON, AppIDs that the role is limited to; [] = none
    password     TEXT NOT NULL, -- argon2id as a PHC text; '' = none
    totp         TEXT NOT NULL, -- the sealed secret of the second factor; '' = none
    totp_step    BIGINT NOT NULL, -- the last time step whose code was taken
    recovery     TEXT NOT NULL, -- JSON, hashes of recovery codes that are left
    created_at   BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL, -- the last sign-in; 0 = never
    -- People of an OpenID Connect provider are known by its issuer and their subject there, which nobody else gets.
    issuer       TEXT COLLATE "binary" NOT NULL DEFAULT '', -- '' = a person of this server
    subject      TEXT COLLATE "binary" NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX idx_people_issuer_subject ON people (issuer, subject) WHERE subject <> '';

CREATE TABLE admin_keys (
    id           TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    hash         TEXT COLLATE "binary" NOT NULL UNIQUE,
    name         TEXT NOT NULL,
    role         TEXT NOT NULL,
    accounts     TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL, -- 0 = never
    last_seen_at BIGINT NOT NULL
);

CREATE TABLE sessions (
    hash         TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    id           TEXT COLLATE "binary" NOT NULL UNIQUE,
    person       TEXT COLLATE "binary" NOT NULL, -- '' = the admin token's
    created_at   BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    ip           TEXT NOT NULL,
    agent        TEXT NOT NULL
);
CREATE INDEX idx_sessions_person ON sessions (person);

-- A link that signs in once.
CREATE TABLE login_links (
    hash       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    person     TEXT COLLATE "binary" NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Which codes were handed to which printer: a row for each package that was made.
CREATE TABLE packages (
    id          BIGINT NOT NULL PRIMARY KEY,
    batch       BIGINT NOT NULL,
    first_idx   BIGINT NOT NULL,
    last_idx    BIGINT NOT NULL,
    spare       BIGINT NOT NULL, -- of them, the last so many stand in for what spoils
    proofs      BIGINT NOT NULL, -- the batch of its proof codes; 0 = none
    printer     TEXT COLLATE "binary" NOT NULL,
    recipients  TEXT NOT NULL, -- JSON, public keys; [] = a passphrase
    formats     TEXT NOT NULL, -- JSON
    overlapping TEXT NOT NULL, -- JSON, packages that have codes of it too
    reason      TEXT NOT NULL,
    created_by  TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    sent        BIGINT NOT NULL, -- downloads that were begun
    spoiled     TEXT NOT NULL, -- the set: gaps and lengths
    recalled_at BIGINT NOT NULL, -- 0 = not recalled
    recalled_by TEXT NOT NULL
);
CREATE INDEX idx_packages_batch_first_idx ON packages (batch, first_idx);

-- The brand's own serial numbers of codes: one of each in a batch.
CREATE TABLE code_serials (
    batch  BIGINT NOT NULL,
    idx    BIGINT NOT NULL,
    serial TEXT COLLATE "binary" NOT NULL,
    PRIMARY KEY (batch, idx)
);
CREATE UNIQUE INDEX idx_code_serials_batch_serial ON code_serials (batch, serial);

-- How accounts look on the pages that buyers see.
CREATE TABLE appearances (
    appid        TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    accent       TEXT NOT NULL, -- #rrggbb; '' = the pages' own
    help         TEXT NOT NULL, -- an https address; '' = none
    open_at_once BIGINT NOT NULL,
    texts        TEXT NOT NULL, -- JSON, by language
    logo_hash    TEXT COLLATE "binary" NOT NULL, -- SHA-256 of the PNG; '' = none
    logo_width   BIGINT NOT NULL,
    logo_height  BIGINT NOT NULL,
    logo_bytes   BIGINT NOT NULL,
    logo         TEXT NOT NULL DEFAULT '' -- the PNG in Base64
);
CREATE INDEX idx_appearances_logo_hash ON appearances (logo_hash);

-- Codes made elsewhere: a row each. A batch of them has the negative of its id in start, which is no counter.
-- Neither text is as it was printed: code is nine symbols as a number, and the two halves of text are one
-- encrypted block (codes/imported.go).
CREATE TABLE imported_codes (
    batch   BIGINT NOT NULL,
    idx     BIGINT NOT NULL,
    code    BIGINT NOT NULL,
    text_hi BIGINT NOT NULL,
    text_lo BIGINT NOT NULL,
    PRIMARY KEY (batch, idx)
-- sqlite: ) WITHOUT ROWID;
-- postgres: );
CREATE UNIQUE INDEX idx_imported_codes_text_hi_text_lo ON imported_codes (text_hi, text_lo);
CREATE UNIQUE INDEX idx_imported_codes_code_batch ON imported_codes (code, batch);

-- The scores from which codes of a batch are alarmed, where that is not the server's own.
CREATE TABLE alarm_thresholds (
    batch     BIGINT NOT NULL PRIMARY KEY,
    threshold BIGINT NOT NULL -- 0 = no score raises an alarm
);

-- Which scans of each node's journal were told to webhooks: all up to a position, and
-- those of the set. It is written while a webhook wants scans.
CREATE TABLE scan_told (
    node   TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    up_to  BIGINT NOT NULL,
    beyond TEXT NOT NULL
);

-- The latest timeline on which a server of PostgreSQL was seen to take writes. system is pg_control_system()'s identifier: a copy
-- of the rows in another system says nothing of it. It is written on old primaries too, so that nodes which see no other know.
CREATE TABLE timelines (
    system   TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    timeline BIGINT NOT NULL
);

-- Counts of owners stand in statistics_counts as per 7, 8 and 11, with a number of the owner, a hash, in the place of the
-- rule; their sums and sketches of users have the dimension 10.
CREATE TABLE statistics_owners (
    number BIGINT NOT NULL PRIMARY KEY,
    name   TEXT COLLATE "binary" NOT NULL
);

-- Where GS1 keys lead. Decision 69.
CREATE TABLE gs1_links (
    key        TEXT COLLATE "binary" NOT NULL PRIMARY KEY, -- 01/09506000134352/10/LOT
    root       TEXT COLLATE "binary" NOT NULL, -- its primary key: 01/09506000134352
    owner      TEXT COLLATE "binary" NOT NULL, -- AppID; '' = the operator
    app        TEXT NOT NULL, -- AppID of the Mini Program that opens; '' = the owner's
    page       TEXT NOT NULL, -- '' = none opens
    links      TEXT NOT NULL, -- JSON
    archived   BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);
CREATE INDEX idx_gs1_links_root ON gs1_links (root);
CREATE INDEX idx_gs1_links_owner_key ON gs1_links (owner, key);

-- What an emulator is taken back to, by name. Decision 84.
CREATE TABLE snapshots (
    name       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    program    TEXT NOT NULL,
    schema     BIGINT NOT NULL, -- of the rows
    accounts   BIGINT NOT NULL,
    rules      BIGINT NOT NULL,
    batches    BIGINT NOT NULL,
    data       TEXT NOT NULL -- the tables as rows of an export, JSON, gzip, base64
);
