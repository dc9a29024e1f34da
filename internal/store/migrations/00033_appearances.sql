-- +goose Up
-- How accounts look on the pages that buyers see.
CREATE TABLE appearances (
    appid       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    accent      TEXT NOT NULL,            -- #rrggbb; '' = the pages' own
    help        TEXT NOT NULL,            -- an https address; '' = none
    ask_first   BIGINT NOT NULL,
    texts       TEXT NOT NULL,            -- JSON, by language
    logo_hash   TEXT COLLATE "binary" NOT NULL, -- SHA-256 of the PNG; '' = none
    logo_width  BIGINT NOT NULL,
    logo_height BIGINT NOT NULL,
    logo_bytes  BIGINT NOT NULL,
    logo        TEXT NOT NULL DEFAULT ''  -- the PNG in Base64
);
CREATE INDEX appearances_of_logo ON appearances (logo_hash);
