-- +goose Up
ALTER TABLE accounts ADD COLUMN options TEXT NOT NULL DEFAULT '{}';  -- what a platform may set: name -> value
ALTER TABLE accounts ADD COLUMN pages TEXT NOT NULL DEFAULT '[]';    -- of the Mini Program; [] = nobody said
ALTER TABLE links ADD COLUMN at_once BIGINT NOT NULL DEFAULT 0;      -- 1 = no administrator was asked
