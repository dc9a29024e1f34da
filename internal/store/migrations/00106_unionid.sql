-- +goose Up
-- The open-platform account that an account is bound to, whose unionids its users have; '' = none. A node of an earlier schema
-- answers no unionid.
ALTER TABLE accounts ADD COLUMN open_platform TEXT NOT NULL DEFAULT '';
ALTER TABLE logins ADD COLUMN unionid TEXT NOT NULL DEFAULT '';
