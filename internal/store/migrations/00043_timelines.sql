-- +goose Up
-- The latest timeline on which a server of PostgreSQL was seen to take writes. system is pg_control_system()'s identifier: a copy
-- of the rows in another system says nothing of it. It is written on old primaries too, so that nodes which see no other know.
CREATE TABLE timelines (
    system   TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    timeline BIGINT NOT NULL
);
