-- +goose Up
-- Users that came after a large sketch of users was written: a sketch for each time
-- that more came, until they are many.
CREATE TABLE statistics_users_since (
    dim    BIGINT NOT NULL,
    day    BIGINT NOT NULL,
    value  TEXT COLLATE "binary" NOT NULL,
    part   BIGINT NOT NULL,
    sketch TEXT NOT NULL,
    PRIMARY KEY (dim, day, value, part)
);

-- A value of a dimension is looked up in each hour or day that there is: an index of
-- them all was as much to write as the rows themselves.
DROP INDEX statistics_sums_of;
