-- +goose Up
-- mark is the scan that stands at position, '' = not known. held is how many scans
-- of the ledger are counted, lacking how many counted ones no ledger has any more.
ALTER TABLE statistics_state ADD COLUMN mark TEXT NOT NULL DEFAULT '';
ALTER TABLE statistics_state ADD COLUMN held BIGINT NOT NULL DEFAULT 0;
ALTER TABLE statistics_state ADD COLUMN lacking BIGINT NOT NULL DEFAULT 0;
UPDATE statistics_state SET held = scans;
