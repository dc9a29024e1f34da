-- The schema of 0.1.0. Databases of earlier builds have lower numbers and are rejected (store/migrate.go).
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

-- Keys for sealing and hashing, sealed with the master key.
CREATE TABLE sealing_keys (
    name   TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    sealed TEXT NOT NULL
);

-- Applied seeds, by the hash of their content.
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
    appid                     TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    kind                      TEXT NOT NULL,
    name                      TEXT NOT NULL,
    subject                   TEXT NOT NULL,
    certified                 BIGINT NOT NULL,
    versions                  TEXT NOT NULL,
    jump_open                 BIGINT NOT NULL,
    features                  TEXT NOT NULL,
    members                   TEXT NOT NULL,
    message_url               TEXT NOT NULL,
    ip_allowlist              TEXT NOT NULL,
    secret_hash               TEXT NOT NULL,
    secret_frozen             BIGINT NOT NULL,
    marketcode_key            TEXT NOT NULL,
    verification_file_name    TEXT NOT NULL,
    verification_file_content TEXT NOT NULL,
    created_at                BIGINT NOT NULL,
    -- The address that opens a Mini Program from a browser.
    url_scheme                TEXT NOT NULL DEFAULT '',
    options                   TEXT NOT NULL DEFAULT '{}', -- what a platform may set: name -> value
    pages                     TEXT NOT NULL DEFAULT '[]', -- of the Mini Program; [] = unknown
    -- The open-platform account that it is bound to, whose unionids its users have; '' = none.
    open_platform             TEXT NOT NULL DEFAULT ''
);

CREATE TABLE links (
    service          TEXT COLLATE "binary" NOT NULL,
    mini_program     TEXT COLLATE "binary" NOT NULL,
    created_at       BIGINT NOT NULL,
    -- 1 linked, 2 and 12 waiting for one side, 3 refused.
    status           BIGINT NOT NULL DEFAULT 1,
    unlinking        BIGINT NOT NULL DEFAULT 0,
    notify_users     BIGINT NOT NULL DEFAULT 0,
    show_profile     BIGINT NOT NULL DEFAULT 0,
    approval_skipped BIGINT NOT NULL DEFAULT 0, -- 1 = no administrator approved it
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
    hash            TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    appid           TEXT COLLATE "binary" NOT NULL,
    kind            TEXT COLLATE "binary" NOT NULL,
    sealed          TEXT NOT NULL,
    force_refreshed BIGINT NOT NULL,
    issued_at       BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    superseded_at   BIGINT NOT NULL, -- 0 = not replaced
    -- The platform that calls for the account; '' = the account itself.
    component       TEXT COLLATE "binary" NOT NULL DEFAULT ''
);
CREATE INDEX idx_access_tokens_appid_kind_issued_at ON access_tokens (appid, kind, issued_at);

CREATE TABLE counters (
    appid   TEXT COLLATE "binary" NOT NULL,
    counter TEXT COLLATE "binary" NOT NULL,
    day     BIGINT NOT NULL,
    value   BIGINT NOT NULL,
    PRIMARY KEY (appid, counter, day)
);

-- Numbers in commit order: the row is locked until the transaction ends. A sequence of the database would
-- leave gaps after a rollback.
CREATE TABLE sequences (
    name  TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO sequences (name, value) VALUES
    ('alarm', 0),
    ('case', 0),
    ('application', 500000000), -- last id of an application
    ('call', 0),
    ('call_deleted', 0), -- the number of the last call that was deleted
    ('code_counter', 0), -- first unused counter
    ('code_event', 0),
    ('delivery', 0),
    ('message', 0),
    ('notification', 0),
    ('package', 0),
    ('push', 0),
    ('scan', 0),
    ('scan_sync', 0),
    ('webhook', 0);

CREATE TABLE rules (
    id           BIGINT NOT NULL PRIMARY KEY, -- seq of the change that added the rule
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
    updated_at   BIGINT NOT NULL,
    published_at BIGINT NOT NULL, -- 0 = never
    -- Columns by which explain finds similar rules.
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
-- Rules of an owner by the directory of their verification file, in which "%23" equals "#".
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

-- Fetches of verification files, by the request id of the call that caused them.
CREATE TABLE domain_verifications (
    rid        TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    owner      TEXT COLLATE "binary" NOT NULL,
    prefix     TEXT NOT NULL,
    url        TEXT NOT NULL,
    ok         BIGINT NOT NULL,
    reason     TEXT NOT NULL,
    steps      TEXT NOT NULL
);
CREATE INDEX idx_domain_verifications_created_at ON domain_verifications (created_at);
CREATE INDEX idx_domain_verifications_owner_created_at ON domain_verifications (owner, created_at);

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
    -- Proof codes for a trial print: they never activate.
    is_proof   BIGINT NOT NULL DEFAULT 0,
    -- How the texts are written; '' = prefix and secret. Decision 68.
    template   TEXT NOT NULL DEFAULT '',
    UNIQUE (account, isv)
);

-- Activations and other events of codes: one row per call.
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
-- Events by the smallest block of 1, 16, 256, … codes that contains all of their codes: the events
-- of a code are in one block of each size. store/codes.go uses the same expression.
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
    unionid    TEXT NOT NULL DEFAULT ''
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

-- Outbox of pushes to the event URLs of platforms.
CREATE TABLE pushes (
    id              BIGINT NOT NULL PRIMARY KEY,
    component       TEXT COLLATE "binary" NOT NULL,
    info_type       TEXT NOT NULL,
    appid           TEXT NOT NULL,
    url             TEXT NOT NULL,
    sealed          TEXT NOT NULL, -- the message, until no attempt follows
    masked_body     TEXT NOT NULL, -- the same without its secrets
    order_key       TEXT COLLATE "binary" NOT NULL DEFAULT '',
    created_at      BIGINT NOT NULL,
    attempts        BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL, -- 0 = no further attempt
    delivered       BIGINT NOT NULL,
    sent_at         BIGINT NOT NULL,
    status          BIGINT NOT NULL,
    response        TEXT NOT NULL,
    error           TEXT NOT NULL
);
CREATE INDEX idx_pushes_component_id ON pushes (component, id);
CREATE INDEX idx_pushes_component_next_attempt_at ON pushes (component, next_attempt_at) WHERE next_attempt_at > 0;

-- Parametric QR codes of service accounts.
CREATE TABLE qrcodes (
    code       TEXT COLLATE "binary" NOT NULL PRIMARY KEY, -- the part of the URL after http://weixin.qq.com/q/
    ticket     TEXT COLLATE "binary" NOT NULL UNIQUE,
    account    TEXT COLLATE "binary" NOT NULL,
    action     TEXT COLLATE "binary" NOT NULL,
    scene      TEXT COLLATE "binary" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL -- 0 = permanent
);
CREATE UNIQUE INDEX idx_qrcodes_account_action_scene ON qrcodes (account, action, scene) WHERE expires_at = 0;
CREATE INDEX idx_qrcodes_account_expires_at ON qrcodes (account, expires_at);

-- Users who follow a service account because they scanned a code of it.
CREATE TABLE followers (
    account     TEXT COLLATE "binary" NOT NULL,
    openid      TEXT COLLATE "binary" NOT NULL,
    followed_at BIGINT NOT NULL,
    PRIMARY KEY (account, openid)
);

-- Outbox of events for the message URLs of accounts.
CREATE TABLE messages (
    id              BIGINT NOT NULL PRIMARY KEY,
    account         TEXT COLLATE "binary" NOT NULL,
    body            TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    attempts        BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    -- All outbox tables have the same columns.
    event           TEXT NOT NULL DEFAULT '',
    sent_at         BIGINT NOT NULL DEFAULT 0,
    status          BIGINT NOT NULL DEFAULT 0,
    error           TEXT NOT NULL DEFAULT '',
    delivered_at    BIGINT NOT NULL DEFAULT 0,
    appid           TEXT NOT NULL DEFAULT '',
    masked_body     TEXT NOT NULL DEFAULT '',
    order_key       TEXT COLLATE "binary" NOT NULL DEFAULT '',
    url             TEXT NOT NULL DEFAULT '',
    response        TEXT NOT NULL DEFAULT ''
);
CREATE INDEX idx_messages_account_id ON messages (account, id);

-- The audit log: every change, in commit order. Other nodes read it to update their replicas. hash covers
-- the hash of the previous row.
CREATE TABLE changes (
    seq           BIGINT NOT NULL PRIMARY KEY,
    occurred_at   BIGINT NOT NULL,
    kind          TEXT COLLATE "binary" NOT NULL,
    key           TEXT COLLATE "binary" NOT NULL,
    actor         TEXT COLLATE "binary" NOT NULL,
    via_component TEXT NOT NULL, -- the third-party platform that acts for the actor
    rid           TEXT COLLATE "binary" NOT NULL,
    action        TEXT NOT NULL,
    detail        TEXT NOT NULL, -- JSON without secrets
    hash          TEXT NOT NULL
);
CREATE INDEX idx_changes_kind_key_seq ON changes (kind, key, seq);
-- The audit log by kind or by actor.
CREATE INDEX idx_changes_kind_seq ON changes (kind, seq);
CREATE INDEX idx_changes_actor_seq ON changes (actor, seq);

-- The newest change. The row is locked until the commit, so seq is in commit order and has no gaps.
CREATE TABLE audit_log_head (
    id   BIGINT NOT NULL PRIMARY KEY, -- 1
    seq  BIGINT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO audit_log_head (id, seq, hash) VALUES (1, 0, '');

-- The scan log, in commit order. day is the day of the time in the id, so that a repeated scan violates the
-- primary key, and whole days can be dropped. With SQLite the scan log is in files, and the table is empty.
CREATE TABLE scan_events (
    seq         BIGINT NOT NULL,
    day         BIGINT NOT NULL, -- since 1970-01-01 UTC
    id          TEXT COLLATE "binary" NOT NULL,
    occurred_at BIGINT NOT NULL,
    user_hash   TEXT COLLATE "binary" NOT NULL,
    source      TEXT NOT NULL,
    client      TEXT NOT NULL,
    network     TEXT NOT NULL,
    region      TEXT NOT NULL,
    action      TEXT NOT NULL,
    kind        TEXT NOT NULL,
    reason      TEXT NOT NULL,
    app         TEXT NOT NULL,
    version     TEXT NOT NULL,
    rule        BIGINT NOT NULL,
    batch       BIGINT NOT NULL,
    idx         BIGINT NOT NULL,
    activation  BIGINT NOT NULL,
    link        TEXT NOT NULL,
    PRIMARY KEY (day, id)
)
-- postgres: PARTITION BY RANGE (day)
;
CREATE INDEX idx_scan_events_seq ON scan_events (seq);
-- Rows without a partition of their day.
-- postgres: CREATE TABLE scan_events_other PARTITION OF scan_events DEFAULT;

-- Last scan that each node shipped from its journal.
CREATE TABLE scan_log_nodes (
    node           TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    shipped_offset BIGINT NOT NULL,
    last_scan_id   TEXT NOT NULL
);

-- Erased users, whose events may still be in journals.
CREATE TABLE scan_log_erasures (
    user_hash TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    erased_at BIGINT NOT NULL
);

-- Progress of the aggregation of scans: one row.
CREATE TABLE statistics_state (
    id               BIGINT NOT NULL PRIMARY KEY,
    scan_log         TEXT NOT NULL,
    counted_offset   BIGINT NOT NULL,
    last_scan_id     TEXT NOT NULL,
    last_scan_at     BIGINT NOT NULL,
    scans            BIGINT NOT NULL,
    sketch_offset    BIGINT NOT NULL,
    utc_offset_hours BIGINT NOT NULL,
    retention_floor  BIGINT NOT NULL,
    zone_changed_at  BIGINT NOT NULL,
    -- Scan at counted_offset, '' = unknown. kept_count: counted scans of the log; missing_count: counted
    -- scans that no log contains any more.
    checkpoint       TEXT NOT NULL DEFAULT '',
    kept_count       BIGINT NOT NULL DEFAULT 0,
    missing_count    BIGINT NOT NULL DEFAULT 0,
    -- Sketches of users of a month have the day 2199023255552 (2^41) + months since January 1970. Months
    -- before rollup_month are rolled up; rollup_cursor is the progress within rollup_month. Rows of earlier
    -- hours than oldest_hour (UTC) and of earlier days than oldest_day are deleted. Days before
    -- zone_change_day may be days of a former time zone.
    rollup_month     BIGINT NOT NULL DEFAULT 0,
    rollup_cursor    TEXT NOT NULL DEFAULT '',
    oldest_hour      BIGINT NOT NULL DEFAULT 0,
    oldest_day       BIGINT NOT NULL DEFAULT 0,
    zone_change_day  BIGINT NOT NULL DEFAULT 0
);

-- Combinations of all dimensions except the rule. id is a hash.
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

-- Scans by granularity: hours (0), days (1) and months (4) of each rule; of all rules, with rule 0, hours
-- (2), days (3) and months (6); of each owner, with the number of the owner instead of the rule, hours (7),
-- days (8) and months (11). bucket is the number of the hour, day or month.
CREATE TABLE statistics_counts (
    granularity BIGINT NOT NULL,
    bucket      BIGINT NOT NULL,
    rule        BIGINT NOT NULL,
    tuple       BIGINT NOT NULL,
    scans       BIGINT NOT NULL,
    first_scans BIGINT NOT NULL,
    PRIMARY KEY (granularity, bucket, rule, tuple)
)
-- sqlite: WITHOUT ROWID
;

-- Scans by hour (0), day (1) and month (4) for each value of one dimension, without the rule.
CREATE TABLE statistics_sums (
    granularity BIGINT NOT NULL,
    dimension   BIGINT NOT NULL,
    bucket      BIGINT NOT NULL,
    value       TEXT COLLATE "binary" NOT NULL,
    scans       BIGINT NOT NULL,
    first_scans BIGINT NOT NULL,
    PRIMARY KEY (granularity, dimension, bucket, value)
)
-- sqlite: WITHOUT ROWID
;

CREATE TABLE statistics_users (
    day       BIGINT NOT NULL,
    dimension BIGINT NOT NULL,
    value     TEXT COLLATE "binary" NOT NULL,
    users     BIGINT NOT NULL,
    sketch    TEXT NOT NULL,
    erased    BIGINT NOT NULL,
    PRIMARY KEY (dimension, day, value)
);

-- Unmatched scans by hour (0) and day of UTC (1), and by host and first path segment.
CREATE TABLE statistics_unmatched (
    granularity BIGINT NOT NULL,
    bucket      BIGINT NOT NULL,
    location    TEXT COLLATE "binary" NOT NULL,
    scans       BIGINT NOT NULL,
    PRIMARY KEY (granularity, bucket, location)
)
-- sqlite: WITHOUT ROWID
;

CREATE TABLE code_counts (
    batch           BIGINT NOT NULL,
    idx             BIGINT NOT NULL,
    scans           BIGINT NOT NULL,
    users           BIGINT NOT NULL,
    first_at        BIGINT NOT NULL,
    last_at         BIGINT NOT NULL,
    score           BIGINT NOT NULL,
    first_score     BIGINT NOT NULL DEFAULT 0, -- score of the scans in the first four weeks after the first scan
    state           TEXT NOT NULL,
    -- State of the scans since the last alarm was dismissed.
    since_dismissal TEXT NOT NULL DEFAULT '', -- JSON; '' = none
    PRIMARY KEY (batch, idx)
);
-- Codes near their alarm threshold. Most codes have a score of 0.
CREATE INDEX idx_code_counts_score ON code_counts (score) WHERE score > 0;

-- The first scan of a code by an app: one row, written once.
CREATE TABLE code_scans (
    batch      BIGINT NOT NULL,
    idx        BIGINT NOT NULL,
    first_at   BIGINT NOT NULL,
    first_scan TEXT COLLATE "binary" NOT NULL,
    first_user TEXT COLLATE "binary" NOT NULL, -- keyed hash; empty = anonymous or erased
    PRIMARY KEY (batch, idx)
);
-- For the erasure of a user.
CREATE INDEX idx_code_scans_first_user ON code_scans (first_user) WHERE first_user <> '';

-- Calls of the last second, counted over all nodes. The table is UNLOGGED on PostgreSQL: no call waits for
-- an fsync, and a crash may lose the counts of a second.
CREATE TABLE rate_limits (
    key          TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    call_times   TEXT NOT NULL, -- microseconds by the database's clock, as {1,2,3}
    last_call_at BIGINT NOT NULL, -- of the last call, allowed or not
    allowed      BIGINT NOT NULL -- 1 = it was allowed
);

-- Receivers of scans and alarms.
CREATE TABLE webhooks (
    id                BIGINT NOT NULL PRIMARY KEY,
    url               TEXT NOT NULL,
    secret            TEXT NOT NULL, -- sealed
    filter            TEXT NOT NULL, -- JSON: which codes, rules and alarms
    enabled           BIGINT NOT NULL,
    first_scan_offset BIGINT NOT NULL, -- only later scans and alarms are delivered
    first_alarm_id    BIGINT NOT NULL,
    created_at        BIGINT NOT NULL
);

-- Progress of the webhook readers.
CREATE TABLE webhook_readers (
    name        TEXT COLLATE "binary" NOT NULL PRIMARY KEY, -- scans or alarms
    read_offset BIGINT NOT NULL,
    -- read_offset with the scan there; '?' = search for the first undelivered scan, '' = unknown.
    checkpoint  TEXT NOT NULL DEFAULT ''
);

-- Outbox of deliveries to webhooks.
CREATE TABLE deliveries (
    id              BIGINT NOT NULL PRIMARY KEY,
    webhook         BIGINT NOT NULL,
    event           TEXT COLLATE "binary" NOT NULL, -- by which a receiver recognises duplicates
    body            TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    attempts        BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL, -- 0 = no further attempt
    sent_at         BIGINT NOT NULL,
    status          BIGINT NOT NULL, -- of the last response; 0 = none
    error           TEXT NOT NULL,
    delivered_at    BIGINT NOT NULL, -- 0 = not delivered
    appid           TEXT NOT NULL DEFAULT '',
    masked_body     TEXT NOT NULL DEFAULT '',
    order_key       TEXT COLLATE "binary" NOT NULL DEFAULT '', -- rows with the same key are sent in order; '' = any order
    url             TEXT NOT NULL DEFAULT '',
    response        TEXT NOT NULL DEFAULT '',
    UNIQUE (webhook, event)
);
CREATE INDEX idx_deliveries_webhook_next_attempt_at ON deliveries (webhook, next_attempt_at) WHERE next_attempt_at > 0;
CREATE INDEX idx_deliveries_webhook_id_next_attempt_at_order_key ON deliveries (webhook, id, next_attempt_at, order_key)
    WHERE next_attempt_at > 0; -- the next row to send
CREATE INDEX idx_deliveries_created_at_done ON deliveries (created_at) WHERE next_attempt_at = 0;
CREATE INDEX idx_deliveries_webhook_order_key_id ON deliveries (webhook, order_key, id) WHERE next_attempt_at > 0 AND order_key <> '';
-- Pending deliveries whose last attempt failed, oldest first.
CREATE INDEX idx_deliveries_webhook_created_at_failing ON deliveries (webhook, created_at) WHERE next_attempt_at > 0 AND error <> '';
-- Deliveries of a webhook, newest first; and failed deliveries.
CREATE INDEX idx_deliveries_webhook_id ON deliveries (webhook, id);
CREATE INDEX idx_deliveries_webhook_id_dead ON deliveries (webhook, id) WHERE next_attempt_at = 0 AND delivered_at = 0;
CREATE INDEX idx_deliveries_id_dead ON deliveries (id) WHERE next_attempt_at = 0 AND delivered_at = 0;

-- Nightly verification of domains: a row for each directory of an owner, and a row without an owner with the
-- time of the next search for new directories.
CREATE TABLE domain_reverifications (
    owner         TEXT COLLATE "binary" NOT NULL,
    directory     TEXT COLLATE "binary" NOT NULL,
    prefix        TEXT NOT NULL, -- of one of the rules there
    checked_at    BIGINT NOT NULL, -- 0 = not yet
    ok            BIGINT NOT NULL,
    reason        TEXT NOT NULL,
    failing_since BIGINT NOT NULL, -- time of the first failure since the last success; 0 = not failing
    next_check_at BIGINT NOT NULL,
    PRIMARY KEY (owner, directory)
);
CREATE INDEX idx_domain_reverifications_next_check_at ON domain_reverifications (next_check_at);
-- Failing checks of verification files in the order of the list.
CREATE INDEX idx_domain_reverifications_owner_directory ON domain_reverifications (owner, directory) WHERE failing_since > 0;

-- Alarms: at most one open alarm per code and kind.
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
    confirmed_at    BIGINT NOT NULL DEFAULT 0, -- 0 = not confirmed
    confirmed_by    TEXT NOT NULL DEFAULT '',
    confirmation    BIGINT NOT NULL DEFAULT 0, -- number of the confirmation, from the sequence of alarms; 0 = not confirmed
    -- After a dismissal the same code can have a new alarm.
    dismissed_at    BIGINT NOT NULL DEFAULT 0, -- 0 = open
    dismissed_by    TEXT NOT NULL DEFAULT '',
    note            TEXT NOT NULL DEFAULT '', -- note of the acknowledgement, or reason of the dismissal
    case_id         BIGINT NOT NULL DEFAULT 0, -- case that groups the alarm with others; 0 = none
    assigned_at     BIGINT NOT NULL DEFAULT 0, -- time at which the alarm was put into the case
    assignment      BIGINT NOT NULL DEFAULT 0, -- number of this change, from the sequence of alarms; 0 = in no case
    dismissal       BIGINT NOT NULL DEFAULT 0 -- number of the dismissal, from the sequence of alarms; 0 = open
);
CREATE INDEX idx_alarms_acknowledged_at_id ON alarms (acknowledged_at, id);
CREATE UNIQUE INDEX idx_alarms_kind_batch_idx ON alarms (kind, batch, idx) WHERE dismissed_at = 0;
CREATE INDEX idx_alarms_batch_idx ON alarms (batch, idx);
CREATE INDEX idx_alarms_case_id_id ON alarms (case_id, id);
CREATE INDEX idx_alarms_assignment ON alarms (assignment) WHERE assignment > 0;
CREATE INDEX idx_alarms_confirmation ON alarms (confirmation) WHERE confirmation > 0;
CREATE INDEX idx_alarms_dismissal ON alarms (dismissal) WHERE dismissal > 0;

-- Cases: alarms that belong together.
CREATE TABLE cases (
    id         BIGINT NOT NULL PRIMARY KEY,
    account    TEXT COLLATE "binary" NOT NULL, -- the account of all alarms of the case; empty = any accounts
    title      TEXT NOT NULL,
    state      TEXT NOT NULL, -- open or closed
    assignee   TEXT COLLATE "binary" NOT NULL, -- person who works on the case; empty = none
    note       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL
);
CREATE INDEX idx_cases_account_id ON cases (account, id);

-- Notifications of accounts about changes that the operator made.
CREATE TABLE notifications (
    id         BIGINT NOT NULL PRIMARY KEY,
    account    TEXT COLLATE "binary" NOT NULL,
    created_at BIGINT NOT NULL,
    kind       TEXT NOT NULL,
    prefix     TEXT NOT NULL,
    reason     TEXT NOT NULL
);
CREATE INDEX idx_notifications_account_id ON notifications (account, id);

-- Counted scans of each node's journal, for the case that the stream is lost: all up to contiguous_to, and
-- those of the set extra.
CREATE TABLE aggregation_offsets (
    node          TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    contiguous_to BIGINT NOT NULL,
    extra         TEXT NOT NULL
);

-- Nodes whose journals may contain scans that are not shipped yet. acked_request is the last sync request for
-- which the node shipped all of its scans.
CREATE TABLE scan_nodes (
    node            TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    name            TEXT NOT NULL,
    acked_request   BIGINT NOT NULL,
    last_offset     BIGINT NOT NULL, -- offset of the last scan in the journal
    shipped_offset  BIGINT NOT NULL, -- up to which scans are shipped
    stopped_cleanly BIGINT NOT NULL, -- 1 = after an orderly stop
    last_seen_at    BIGINT NOT NULL,
    -- Lag of the node's replica behind the audit log, as the node reports it once a minute.
    lag_changes     BIGINT NOT NULL DEFAULT 0, -- changes not yet applied
    in_sync_at      BIGINT NOT NULL DEFAULT 0, -- when all changes were applied
    reported_at     BIGINT NOT NULL DEFAULT 0 -- 0 = never
);

-- Known scan logs. is_local is 1 for the log in this database or in its files. For a log that is no longer in
-- use, counted_offset is its last counted offset, and last_scan_id the last scan that was shipped to it and is
-- counted in another log ('' = none).
CREATE TABLE scan_logs (
    id             TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    is_local       BIGINT NOT NULL,
    counted_offset BIGINT NOT NULL,
    last_scan_id   TEXT NOT NULL,
    -- Progress of the sketches of distinct users and of the webhook reader in a log that is no longer in use,
    -- at which they continue if the log is used again; -1 = unknown.
    sketch_offset  BIGINT NOT NULL DEFAULT -1,
    webhook_offset BIGINT NOT NULL DEFAULT -1,
    checkpoint     TEXT NOT NULL DEFAULT ''
);

-- Numbers of rows. Triggers update these tables with every change.

-- Rules of an owner (target ''), rules of a service account that open one Mini Program, and rules of all
-- service accounts that open it (owner '').
CREATE TABLE rule_counts (
    owner  TEXT COLLATE "binary" NOT NULL,
    target TEXT COLLATE "binary" NOT NULL,
    rules  BIGINT NOT NULL, -- no row = 0
    PRIMARY KEY (owner, target)
-- postgres: );
-- sqlite: ) WITHOUT ROWID;

-- The same rules in buckets of about 1,024: rules whose id is at least first_id, and less than first_id of
-- the next bucket.
CREATE TABLE rule_page_buckets (
    owner    TEXT COLLATE "binary" NOT NULL,
    target   TEXT COLLATE "binary" NOT NULL,
    first_id BIGINT NOT NULL,
    rules    BIGINT NOT NULL,
    PRIMARY KEY (owner, target, first_id)
-- postgres: );
-- sqlite: ) WITHOUT ROWID;

-- Publishes of an owner in an hour since 1970. Months begin with an hour in every zone.
CREATE TABLE publish_counts (
    owner     TEXT COLLATE "binary" NOT NULL,
    hour      BIGINT NOT NULL,
    publishes BIGINT NOT NULL,
    PRIMARY KEY (owner, hour)
-- postgres: );
-- sqlite: ) WITHOUT ROWID;

-- New rules have the highest ids, so they are added to the last bucket, or to a new bucket if it is full.
-- Other rules are added to the bucket of their id.
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_add AFTER INSERT ON rules BEGIN
-- sqlite:     INSERT INTO rule_counts (owner, target, rules) VALUES (NEW.owner, '', 1)
-- sqlite:         ON CONFLICT (owner, target) DO UPDATE SET rules = rules + 1;
-- sqlite:     INSERT INTO rule_page_buckets (owner, target, first_id, rules)
-- sqlite:         VALUES (NEW.owner, '', COALESCE((SELECT CASE WHEN rules < 1024 OR EXISTS (SELECT 1 FROM rule_page_buckets
-- sqlite:             WHERE owner = NEW.owner AND target = '' AND first_id > NEW.id) THEN first_id END FROM rule_page_buckets
-- sqlite:             WHERE owner = NEW.owner AND target = '' AND first_id <= NEW.id ORDER BY first_id DESC LIMIT 1), NEW.id), 1)
-- sqlite:         ON CONFLICT (owner, target, first_id) DO UPDATE SET rules = rules + 1;
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_add_service AFTER INSERT ON rules WHEN NEW.kind = 'service_rule' BEGIN
-- sqlite:     INSERT INTO rule_counts (owner, target, rules) VALUES (NEW.owner, NEW.target, 1), ('', NEW.target, 1)
-- sqlite:         ON CONFLICT (owner, target) DO UPDATE SET rules = rules + 1;
-- sqlite:     INSERT INTO rule_page_buckets (owner, target, first_id, rules)
-- sqlite:         VALUES (NEW.owner, NEW.target, COALESCE((SELECT CASE WHEN rules < 1024 OR EXISTS (SELECT 1 FROM rule_page_buckets
-- sqlite:             WHERE owner = NEW.owner AND target = NEW.target AND first_id > NEW.id) THEN first_id END FROM rule_page_buckets
-- sqlite:             WHERE owner = NEW.owner AND target = NEW.target AND first_id <= NEW.id ORDER BY first_id DESC LIMIT 1), NEW.id), 1)
-- sqlite:         ON CONFLICT (owner, target, first_id) DO UPDATE SET rules = rules + 1;
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_delete AFTER DELETE ON rules BEGIN
-- sqlite:     UPDATE rule_counts SET rules = rules - 1 WHERE owner = OLD.owner AND target = '';
-- sqlite:     DELETE FROM rule_counts WHERE owner = OLD.owner AND target = '' AND rules = 0;
-- sqlite:     UPDATE rule_page_buckets SET rules = rules - 1 WHERE owner = OLD.owner AND target = '' AND first_id =
-- sqlite:         (SELECT MAX(first_id) FROM rule_page_buckets WHERE owner = OLD.owner AND target = '' AND first_id <= OLD.id);
-- sqlite:     DELETE FROM rule_page_buckets WHERE owner = OLD.owner AND target = '' AND rules = 0 AND first_id =
-- sqlite:         (SELECT MAX(first_id) FROM rule_page_buckets WHERE owner = OLD.owner AND target = '' AND first_id <= OLD.id);
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_delete_service AFTER DELETE ON rules WHEN OLD.kind = 'service_rule' BEGIN
-- sqlite:     UPDATE rule_counts SET rules = rules - 1 WHERE owner IN (OLD.owner, '') AND target = OLD.target;
-- sqlite:     DELETE FROM rule_counts WHERE owner IN (OLD.owner, '') AND target = OLD.target AND rules = 0;
-- sqlite:     UPDATE rule_page_buckets SET rules = rules - 1 WHERE owner = OLD.owner AND target = OLD.target AND first_id =
-- sqlite:         (SELECT MAX(first_id) FROM rule_page_buckets WHERE owner = OLD.owner AND target = OLD.target AND first_id <= OLD.id);
-- sqlite:     DELETE FROM rule_page_buckets WHERE owner = OLD.owner AND target = OLD.target AND rules = 0 AND first_id =
-- sqlite:         (SELECT MAX(first_id) FROM rule_page_buckets WHERE owner = OLD.owner AND target = OLD.target AND first_id <= OLD.id);
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_target AFTER UPDATE OF target ON rules WHEN OLD.target <> NEW.target BEGIN
-- sqlite:     UPDATE rule_counts SET rules = rules - 1 WHERE owner IN (OLD.owner, '') AND target = OLD.target;
-- sqlite:     DELETE FROM rule_counts WHERE owner IN (OLD.owner, '') AND target = OLD.target AND rules = 0;
-- sqlite:     UPDATE rule_page_buckets SET rules = rules - 1 WHERE owner = OLD.owner AND target = OLD.target AND first_id =
-- sqlite:         (SELECT MAX(first_id) FROM rule_page_buckets WHERE owner = OLD.owner AND target = OLD.target AND first_id <= OLD.id);
-- sqlite:     DELETE FROM rule_page_buckets WHERE owner = OLD.owner AND target = OLD.target AND rules = 0 AND first_id =
-- sqlite:         (SELECT MAX(first_id) FROM rule_page_buckets WHERE owner = OLD.owner AND target = OLD.target AND first_id <= OLD.id);
-- sqlite:     INSERT INTO rule_counts (owner, target, rules) VALUES (NEW.owner, NEW.target, 1), ('', NEW.target, 1)
-- sqlite:         ON CONFLICT (owner, target) DO UPDATE SET rules = rules + 1;
-- sqlite:     INSERT INTO rule_page_buckets (owner, target, first_id, rules)
-- sqlite:         VALUES (NEW.owner, NEW.target, COALESCE((SELECT MAX(first_id) FROM rule_page_buckets
-- sqlite:             WHERE owner = NEW.owner AND target = NEW.target AND first_id <= NEW.id), NEW.id), 1)
-- sqlite:         ON CONFLICT (owner, target, first_id) DO UPDATE SET rules = rules + 1;
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER publishes_counted AFTER INSERT ON publishes BEGIN
-- sqlite:     INSERT INTO publish_counts (owner, hour, publishes) VALUES (NEW.owner, NEW.created_at / 3600000, 1)
-- sqlite:         ON CONFLICT (owner, hour) DO UPDATE SET publishes = publishes + 1;
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- A bulk import counts its rules when it publishes them, otherwise the counts would be locked during the
-- whole import. Decision 55.
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION rules_counted_add() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     IF current_setting('qrjump.bulk_insert', true) = 'on' THEN
-- postgres:         RETURN NULL;
-- postgres:     END IF;
-- postgres:     INSERT INTO rule_counts AS c (owner, target, rules)
-- postgres:         SELECT owner, '', COUNT(*) FROM changed GROUP BY owner
-- postgres:         UNION ALL SELECT owner, target, COUNT(*) FROM changed WHERE kind = 'service_rule' GROUP BY owner, target
-- postgres:         UNION ALL SELECT '', target, COUNT(*) FROM changed WHERE kind = 'service_rule' GROUP BY target
-- postgres:         ORDER BY 1, 2
-- postgres:         ON CONFLICT (owner, target) DO UPDATE SET rules = c.rules + excluded.rules;
-- postgres:     INSERT INTO rule_page_buckets AS p (owner, target, first_id, rules)
-- postgres:         SELECT owner, target, CASE WHEN piece = 0 THEN COALESCE(last, MIN(id)) ELSE MIN(id) END, COUNT(*) FROM (
-- postgres:             SELECT k.owner, k.target, k.id, l.first_id AS last,
-- postgres:                 CASE WHEN l.within THEN 0
-- postgres:                     ELSE (COALESCE(l.rules, 0) + ROW_NUMBER() OVER (PARTITION BY k.owner, k.target ORDER BY k.id) - 1) / 1024
-- postgres:                 END AS piece
-- postgres:             FROM (SELECT owner, '' AS target, id FROM changed
-- postgres:                 UNION ALL SELECT owner, target, id FROM changed WHERE kind = 'service_rule') AS k
-- postgres:             LEFT JOIN LATERAL (SELECT first_id, rules, EXISTS (SELECT 1 FROM rule_page_buckets AS later
-- postgres:                     WHERE later.owner = k.owner AND later.target = k.target AND later.first_id > k.id) AS within
-- postgres:                 FROM rule_page_buckets WHERE owner = k.owner AND target = k.target AND first_id <= k.id
-- postgres:                 ORDER BY first_id DESC LIMIT 1) AS l ON true) AS r
-- postgres:         GROUP BY owner, target, piece, last
-- postgres:         ON CONFLICT (owner, target, first_id) DO UPDATE SET rules = p.rules + excluded.rules;
-- postgres:     RETURN NULL;
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION decrement_rule_counts(o TEXT, t TEXT, i BIGINT) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     UPDATE rule_counts SET rules = rules - 1 WHERE owner = o AND target = t;
-- postgres:     DELETE FROM rule_counts WHERE owner = o AND target = t AND rules = 0;
-- postgres:     UPDATE rule_page_buckets SET rules = rules - 1 WHERE owner = o AND target = t AND first_id =
-- postgres:         (SELECT MAX(first_id) FROM rule_page_buckets WHERE owner = o AND target = t AND first_id <= i);
-- postgres:     DELETE FROM rule_page_buckets WHERE owner = o AND target = t AND rules = 0 AND first_id =
-- postgres:         (SELECT MAX(first_id) FROM rule_page_buckets WHERE owner = o AND target = t AND first_id <= i);
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION rules_counted_delete() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     PERFORM decrement_rule_counts(OLD.owner, '', OLD.id);
-- postgres:     IF OLD.kind = 'service_rule' THEN
-- postgres:         PERFORM decrement_rule_counts(OLD.owner, OLD.target, OLD.id), decrement_rule_counts('', OLD.target, 0);
-- postgres:     END IF;
-- postgres:     RETURN NULL;
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- A bulk import also counts changes of the target when it publishes them.
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION rules_counted_target() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     IF current_setting('qrjump.bulk_update', true) = 'on' THEN
-- postgres:         RETURN NULL;
-- postgres:     END IF;
-- postgres:     PERFORM decrement_rule_counts(OLD.owner, OLD.target, OLD.id), decrement_rule_counts('', OLD.target, 0);
-- postgres:     INSERT INTO rule_counts AS c (owner, target, rules) VALUES (NEW.owner, NEW.target, 1), ('', NEW.target, 1)
-- postgres:         ON CONFLICT (owner, target) DO UPDATE SET rules = c.rules + 1;
-- postgres:     INSERT INTO rule_page_buckets AS p (owner, target, first_id, rules)
-- postgres:         VALUES (NEW.owner, NEW.target, COALESCE((SELECT MAX(first_id) FROM rule_page_buckets
-- postgres:             WHERE owner = NEW.owner AND target = NEW.target AND first_id <= NEW.id), NEW.id), 1)
-- postgres:         ON CONFLICT (owner, target, first_id) DO UPDATE SET rules = p.rules + 1;
-- postgres:     RETURN NULL;
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION publishes_counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     INSERT INTO publish_counts AS c (owner, hour, publishes) SELECT owner, created_at / 3600000, COUNT(*) FROM changed
-- postgres:         GROUP BY owner, created_at / 3600000
-- postgres:         ON CONFLICT (owner, hour) DO UPDATE SET publishes = c.publishes + excluded.publishes;
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

-- The log of calls: a row per block of calls, by the second of their request ids. Rows are deleted in the
-- order of seq.
CREATE TABLE call_blocks (
    seq    BIGINT NOT NULL PRIMARY KEY, -- number of the last call
    second BIGINT NOT NULL,
    calls  BIGINT NOT NULL, -- number of calls
    text   TEXT NOT NULL -- a JSON object and a newline for each
);
CREATE INDEX idx_call_blocks_second ON call_blocks (second);

-- Users added after a large sketch was written: one small sketch per update, merged when there are many.
CREATE TABLE statistics_user_deltas (
    dimension BIGINT NOT NULL,
    day       BIGINT NOT NULL,
    value     TEXT COLLATE "binary" NOT NULL,
    part      BIGINT NOT NULL,
    sketch    TEXT NOT NULL,
    PRIMARY KEY (dimension, day, value, part)
);

-- Deviations of callers from the documented use of the API: number, first and last call.
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

-- Users of the admin API and the console.
CREATE TABLE people (
    name         TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    role         TEXT NOT NULL,
    accounts     TEXT NOT NULL, -- JSON, AppIDs that the role is limited to; [] = none
    password     TEXT NOT NULL, -- argon2id as a PHC text; '' = none
    totp         TEXT NOT NULL, -- the sealed secret of the second factor; '' = none
    totp_step    BIGINT NOT NULL, -- last time step whose code was used
    recovery     TEXT NOT NULL, -- JSON, hashes of unused recovery codes
    created_at   BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL, -- the last sign-in; 0 = never
    -- Users of an OpenID Connect provider are identified by issuer and subject.
    issuer       TEXT COLLATE "binary" NOT NULL DEFAULT '', -- '' = a local user
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

-- Packages of codes for printers.
CREATE TABLE packages (
    id             BIGINT NOT NULL PRIMARY KEY,
    batch          BIGINT NOT NULL,
    first_idx      BIGINT NOT NULL,
    last_idx       BIGINT NOT NULL,
    spare_count    BIGINT NOT NULL, -- spare codes at the end of the range, for spoiled prints
    proof_batch_id BIGINT NOT NULL, -- batch of the proof codes; 0 = none
    printer        TEXT COLLATE "binary" NOT NULL,
    recipients     TEXT NOT NULL, -- JSON, public keys; [] = a passphrase
    formats        TEXT NOT NULL, -- JSON
    overlapping    TEXT NOT NULL, -- JSON, packages with some of the same codes
    reason         TEXT NOT NULL,
    created_by     TEXT NOT NULL,
    created_at     BIGINT NOT NULL,
    download_count BIGINT NOT NULL, -- number of started downloads
    spoiled        TEXT NOT NULL, -- the set: gaps and lengths
    recalled_at    BIGINT NOT NULL, -- 0 = not recalled
    recalled_by    TEXT NOT NULL
);
CREATE INDEX idx_packages_batch_first_idx ON packages (batch, first_idx);

-- Serial numbers that a brand gives to codes, unique within a batch.
CREATE TABLE code_serials (
    batch  BIGINT NOT NULL,
    idx    BIGINT NOT NULL,
    serial TEXT COLLATE "binary" NOT NULL,
    PRIMARY KEY (batch, idx)
);
CREATE UNIQUE INDEX idx_code_serials_batch_serial ON code_serials (batch, serial);

-- Branding of an account on the landing pages.
CREATE TABLE appearances (
    appid        TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    accent       TEXT NOT NULL, -- #rrggbb; '' = default
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

-- Imported codes. Their batches have the negative of the id in start, because they have no counter.
-- Texts are not stored as printed: code is nine symbols as a number, and the two halves of text are one
-- encrypted block (codes/imported.go), or the keyed hash of a text whose encrypted token is in token
-- (codes/imported_token.go).
CREATE TABLE imported_codes (
    batch   BIGINT NOT NULL,
    idx     BIGINT NOT NULL,
    code    BIGINT NOT NULL,
    text_hi BIGINT NOT NULL,
    text_lo BIGINT NOT NULL,
    token   TEXT COLLATE "binary" NOT NULL, -- in Base64; '' = none
    PRIMARY KEY (batch, idx)
-- sqlite: ) WITHOUT ROWID;
-- postgres: );
CREATE UNIQUE INDEX idx_imported_codes_text_hi_text_lo ON imported_codes (text_hi, text_lo);
CREATE UNIQUE INDEX idx_imported_codes_code_batch ON imported_codes (code, batch);

-- Alarm thresholds of batches that differ from the setting.
CREATE TABLE alarm_thresholds (
    batch     BIGINT NOT NULL PRIMARY KEY,
    threshold BIGINT NOT NULL -- 0 = no alarms
);

-- Scans of each node's journal that were delivered to webhooks: all up to contiguous_to, and those of the set
-- extra. Written only while a webhook subscribes to scans.
CREATE TABLE webhook_offsets (
    node          TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    contiguous_to BIGINT NOT NULL,
    extra         TEXT NOT NULL
);

-- The latest timeline on which a PostgreSQL server accepted writes. system is the identifier of pg_control_system():
-- rows of another system are ignored. Old primaries get the row too, which fences nodes that see no other server.
CREATE TABLE timelines (
    system   TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    timeline BIGINT NOT NULL
);

-- Names of the owners by number, a hash. Sums and sketches of users of an owner have the dimension 10.
CREATE TABLE statistics_owners (
    number BIGINT NOT NULL PRIMARY KEY,
    name   TEXT COLLATE "binary" NOT NULL
);

-- Links of GS1 keys. Decision 69.
CREATE TABLE gs1_links (
    key        TEXT COLLATE "binary" NOT NULL PRIMARY KEY, -- 01/09506000134352/10/LOT
    root       TEXT COLLATE "binary" NOT NULL, -- its primary key: 01/09506000134352
    owner      TEXT COLLATE "binary" NOT NULL, -- AppID; '' = the operator
    app        TEXT NOT NULL, -- AppID of the Mini Program; '' = the owner
    page       TEXT NOT NULL, -- '' = none opens
    links      TEXT NOT NULL, -- JSON
    archived   BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX idx_gs1_links_root ON gs1_links (root);
CREATE INDEX idx_gs1_links_owner_key ON gs1_links (owner, key);

-- Snapshots of an emulator, by name. Decision 84.
CREATE TABLE snapshots (
    name       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    program    TEXT NOT NULL,
    schema     BIGINT NOT NULL, -- schema number of the rows
    accounts   BIGINT NOT NULL,
    rules      BIGINT NOT NULL,
    batches    BIGINT NOT NULL,
    data       TEXT NOT NULL -- the tables as rows of an export, JSON, gzip, base64
);
