-- +goose Up
-- Every change, in the order of commits: what other nodes follow, the audit
-- log, and the history of rules. hash chains a row to the one before it;
-- '' = moved here from rule_changes and not chained yet.
CREATE TABLE changes (
    seq    BIGINT NOT NULL PRIMARY KEY,
    at     BIGINT NOT NULL,
    kind   TEXT COLLATE "binary" NOT NULL,
    key    TEXT COLLATE "binary" NOT NULL,
    actor  TEXT COLLATE "binary" NOT NULL,
    via    TEXT NOT NULL, -- the third-party platform that called for the actor
    rid    TEXT COLLATE "binary" NOT NULL,
    did    TEXT NOT NULL,
    detail TEXT NOT NULL, -- JSON, never with a secret in it
    hash   TEXT NOT NULL
);
CREATE INDEX changes_of ON changes (kind, key, seq);

INSERT INTO changes (seq, at, kind, key, actor, via, rid, did, detail, hash)
    SELECT seq, at, 'rule', key, actor, '', rid, did, rule, '' FROM rule_changes;
DROP TABLE rule_changes;

-- The last change. The row is locked until the commit, so numbers are in the
-- order of commits and have no gap.
CREATE TABLE change_head (
    id   BIGINT NOT NULL PRIMARY KEY, -- 1
    seq  BIGINT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO change_head (id, seq, hash) SELECT 1, value, '' FROM sequences WHERE name = 'change';
DELETE FROM sequences WHERE name = 'change';
