-- +goose Up
-- Calls by the second that their request ids begin with, many in a row. Those of
-- versions before stay in the table calls until they are forgotten.
INSERT INTO sequences (name, value) VALUES ('call_gone', 0); -- the number of the last call that is forgotten
CREATE TABLE call_blocks (
    seq    BIGINT NOT NULL PRIMARY KEY, -- the number of its last call
    second BIGINT NOT NULL,
    calls  BIGINT NOT NULL, -- how many
    text   TEXT NOT NULL -- a JSON object and a newline for each
);
CREATE INDEX call_blocks_of ON call_blocks (second);
