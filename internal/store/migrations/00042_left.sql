-- +goose Up
-- Up to where a ledger that is left was read: whoever comes back to it goes on there. folded: by the sketches of distinct users;
-- told and mark: by the reader of webhooks, as in webhook_readers. -1 = nobody knows.
ALTER TABLE ledgers ADD COLUMN folded BIGINT NOT NULL DEFAULT -1;
ALTER TABLE ledgers ADD COLUMN told BIGINT NOT NULL DEFAULT -1;
ALTER TABLE ledgers ADD COLUMN mark TEXT NOT NULL DEFAULT '';
