-- +goose Up

-- What happened to a code is asked for when a till redeems it a second time, and
-- in a campaign most events are of one code each. Those are found by it; of the
-- others there are few.
CREATE INDEX code_events_single ON code_events (batch, first_idx, seq) WHERE last_idx = first_idx;
CREATE INDEX code_events_wide ON code_events (batch, seq) WHERE last_idx > first_idx;
