-- +goose Up
-- Why a call was answered so: older rows do not say it. errcode 0 = it was done.
ALTER TABLE calls ADD COLUMN errcode BIGINT NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN detail TEXT NOT NULL DEFAULT '';
ALTER TABLE calls ADD COLUMN behaviours TEXT NOT NULL DEFAULT ''; -- ids, a space between
