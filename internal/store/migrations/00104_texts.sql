-- +goose Up
-- How the texts of an application are written; '' = prefix and secret. A node of an earlier schema writes and reads prefix and
-- secret only: until all nodes are of this one, no application should have a template. Decision 68.
ALTER TABLE batches ADD COLUMN template TEXT NOT NULL DEFAULT '';
