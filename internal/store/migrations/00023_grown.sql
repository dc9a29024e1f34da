-- +goose Up
-- Indexes for what is asked often of tables that grow for years. PostgreSQL makes
-- them while nodes write, each in a transaction of its own; one that was not finished
-- is made anew.

-- The audit log by kind or by actor.
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS changes_by_kind;
CREATE INDEX
-- postgres in use: CONCURRENTLY
changes_by_kind ON changes (kind, seq);
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS changes_by_actor;
CREATE INDEX
-- postgres in use: CONCURRENTLY
changes_by_actor ON changes (actor, seq);

-- Deliveries of a webhook, newest first; and those that were given up.
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS deliveries_of;
CREATE INDEX
-- postgres in use: CONCURRENTLY
deliveries_of ON deliveries (webhook, id);
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS deliveries_dead;
CREATE INDEX
-- postgres in use: CONCURRENTLY
deliveries_dead ON deliveries (webhook, id) WHERE next_at = 0 AND delivered_at = 0;
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS deliveries_dead_of_all;
CREATE INDEX
-- postgres in use: CONCURRENTLY
deliveries_dead_of_all ON deliveries (id) WHERE next_at = 0 AND delivered_at = 0;

-- Rules that open a Mini Program, oldest first.
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS rules_to;
CREATE INDEX
-- postgres in use: CONCURRENTLY
rules_to ON rules (target, id);
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS rules_opening;

-- Rules of an owner in a directory, as the verification file of it is asked for: "%23"
-- and "#" are one. Nothing looks for the first segment of a path any more.
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS rules_in;
CREATE INDEX
-- postgres in use: CONCURRENTLY
rules_in ON rules (host, owner, (REPLACE(RTRIM(link_path, REPLACE(link_path, '/', '')), '%23', '#')), (SUBSTR(key, 1, 5)));
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS rules_near;

-- Failing checks of verification files in the order of the list.
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS rechecks_bad;
CREATE INDEX
-- postgres in use: CONCURRENTLY
rechecks_bad ON rechecks (owner, directory) WHERE since > 0;
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS rechecks_failing;

DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS confirmations_of;
CREATE INDEX
-- postgres in use: CONCURRENTLY
confirmations_of ON confirmations (owner, at);

-- Events by the smallest block of 1, 16, 256, … codes that holds all of theirs: those
-- around a code are in one block of each size. store/codes.go asks with the same words.
-- PostgreSQL could not use the index of events of one code.
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS code_events_around;
CREATE INDEX
-- postgres in use: CONCURRENTLY
code_events_around ON code_events (batch, (CASE
    WHEN first_idx = last_idx THEN first_idx * 16
    WHEN first_idx >> 4 = last_idx >> 4 THEN (first_idx >> 4) * 16 + 1
    WHEN first_idx >> 8 = last_idx >> 8 THEN (first_idx >> 8) * 16 + 2
    WHEN first_idx >> 12 = last_idx >> 12 THEN (first_idx >> 12) * 16 + 3
    WHEN first_idx >> 16 = last_idx >> 16 THEN (first_idx >> 16) * 16 + 4
    WHEN first_idx >> 20 = last_idx >> 20 THEN (first_idx >> 20) * 16 + 5
    WHEN first_idx >> 24 = last_idx >> 24 THEN (first_idx >> 24) * 16 + 6
    WHEN first_idx >> 28 = last_idx >> 28 THEN (first_idx >> 28) * 16 + 7
    ELSE 8 END), seq);
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS code_events_wide;
DROP INDEX
-- postgres in use: CONCURRENTLY
IF EXISTS code_events_single;
