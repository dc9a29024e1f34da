-- +goose Up
-- Codes made elsewhere: a row each. A batch of them has the negative of its id in start, which is no counter.
-- Neither text is as it was printed: code is nine symbols as a number, and the two halves of text are one
-- encrypted block (codes/imported.go).
CREATE TABLE imported_codes (
    batch   BIGINT NOT NULL,
    idx     BIGINT NOT NULL,
    code    BIGINT NOT NULL,
    text_hi BIGINT NOT NULL,
    text_lo BIGINT NOT NULL,
    PRIMARY KEY (batch, idx)
-- sqlite: ) WITHOUT ROWID;
-- postgres: );
CREATE UNIQUE INDEX imported_codes_text ON imported_codes (text_hi, text_lo);
CREATE UNIQUE INDEX imported_codes_code ON imported_codes (code, batch);
