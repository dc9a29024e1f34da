-- +goose Up
-- How far the memory of a node was behind the log of changes when it last said so, which it does once a minute.
ALTER TABLE scan_nodes ADD COLUMN lag_changes BIGINT NOT NULL DEFAULT 0; -- changes that it had not followed
ALTER TABLE scan_nodes ADD COLUMN level_at BIGINT NOT NULL DEFAULT 0;    -- when it last held every change
ALTER TABLE scan_nodes ADD COLUMN lag_at BIGINT NOT NULL DEFAULT 0;      -- when it said so; 0 = it never did
