-- +goose Up
-- People of an OpenID Connect provider are known by its issuer and their subject there, which nobody else gets.
ALTER TABLE people ADD COLUMN issuer TEXT COLLATE "binary" NOT NULL DEFAULT '';  -- '' = a person of this server
ALTER TABLE people ADD COLUMN subject TEXT COLLATE "binary" NOT NULL DEFAULT '';
CREATE UNIQUE INDEX people_of_provider ON people (issuer, subject) WHERE subject <> '';
