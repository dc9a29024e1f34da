-- +goose Up
-- The brand's own serial numbers of codes: one of each in a batch.
CREATE TABLE code_serials (
    batch  BIGINT NOT NULL,
    idx    BIGINT NOT NULL,
    serial TEXT COLLATE "binary" NOT NULL,
    PRIMARY KEY (batch, idx)
);
CREATE UNIQUE INDEX code_serials_by ON code_serials (batch, serial);
