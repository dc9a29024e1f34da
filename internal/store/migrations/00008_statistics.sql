-- +goose Up
-- How far the counting of scans is: one row.
CREATE TABLE statistics_state (
    id             BIGINT NOT NULL PRIMARY KEY,
    ledger         TEXT NOT NULL,
    position       BIGINT NOT NULL,
    scan           TEXT NOT NULL,
    scan_at        BIGINT NOT NULL,
    scans          BIGINT NOT NULL,
    duplicates     BIGINT NOT NULL,
    users_position BIGINT NOT NULL,
    zone           BIGINT NOT NULL, -- hours east of UTC
    forgotten      BIGINT NOT NULL,
    turned         BIGINT NOT NULL
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
CREATE INDEX statistics_tuples_activity ON statistics_tuples (activity);
CREATE INDEX statistics_tuples_brand ON statistics_tuples (brand);
CREATE INDEX statistics_tuples_product ON statistics_tuples (product);
CREATE INDEX statistics_tuples_batch ON statistics_tuples (batch);

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
CREATE INDEX statistics_sums_of ON statistics_sums (per, dim, value, at);

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

-- Which stretches of the log are counted, with a filter of their scans' ids.
CREATE TABLE statistics_seen (
    after_pos BIGINT NOT NULL PRIMARY KEY,
    position  BIGINT NOT NULL,
    oldest    BIGINT NOT NULL,
    newest    BIGINT NOT NULL,
    filter    TEXT NOT NULL
);

-- Events of the ledger that stand in it a second time.
CREATE TABLE statistics_duplicates (
    position BIGINT NOT NULL PRIMARY KEY
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
    PRIMARY KEY (batch, idx)
);
