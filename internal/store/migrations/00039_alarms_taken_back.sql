-- +goose Up
-- An alarm can be taken back, and its code be alarmed again: of a code and a kind one alarm at most stands.
ALTER TABLE alarms ADD COLUMN dismissed_at BIGINT NOT NULL DEFAULT 0; -- 0 = it stands
ALTER TABLE alarms ADD COLUMN dismissed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE alarms ADD COLUMN note TEXT NOT NULL DEFAULT '';          -- why
ALTER TABLE alarms ADD COLUMN dismissal BIGINT NOT NULL DEFAULT 0;    -- its number, of the sequence of alarms; 0 = it stands
-- postgres: ALTER TABLE alarms DROP CONSTRAINT alarms_kind_batch_idx_key;
-- sqlite: CREATE TABLE alarms_anew (
-- sqlite:     id           BIGINT NOT NULL PRIMARY KEY,
-- sqlite:     kind         TEXT COLLATE "binary" NOT NULL,
-- sqlite:     batch        BIGINT NOT NULL,
-- sqlite:     idx          BIGINT NOT NULL,
-- sqlite:     at           BIGINT NOT NULL,
-- sqlite:     scan         TEXT NOT NULL,
-- sqlite:     score        BIGINT NOT NULL,
-- sqlite:     why          TEXT NOT NULL,
-- sqlite:     seen_at      BIGINT NOT NULL,
-- sqlite:     seen_by      TEXT NOT NULL,
-- sqlite:     dismissed_at BIGINT NOT NULL DEFAULT 0,
-- sqlite:     dismissed_by TEXT NOT NULL DEFAULT '',
-- sqlite:     note         TEXT NOT NULL DEFAULT '',
-- sqlite:     dismissal    BIGINT NOT NULL DEFAULT 0
-- sqlite: );
-- sqlite: INSERT INTO alarms_anew SELECT * FROM alarms;
-- sqlite: DROP TABLE alarms;
-- sqlite: ALTER TABLE alarms_anew RENAME TO alarms;
-- sqlite: CREATE INDEX alarms_open ON alarms (seen_at, id);
CREATE UNIQUE INDEX alarms_standing ON alarms (kind, batch, idx) WHERE dismissed_at = 0;
CREATE INDEX alarms_of ON alarms (batch, idx);
CREATE INDEX alarms_dismissed ON alarms (dismissal) WHERE dismissal > 0;

-- What is known of the scans of a code since its alarm was taken back.
ALTER TABLE code_counts ADD COLUMN since TEXT NOT NULL DEFAULT '';    -- JSON; '' = none

-- The scores from which codes of a batch are alarmed, where that is not the server's own.
CREATE TABLE alarm_thresholds (
    batch     BIGINT NOT NULL PRIMARY KEY,
    threshold BIGINT NOT NULL -- 0 = no score raises an alarm
);
