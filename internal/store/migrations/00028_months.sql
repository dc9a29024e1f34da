-- +goose Up
-- Counts of calendar months: per 4, and 6 of all rules together; sketches of users of a
-- month under the day 2199023255552 (2^41) + months since January 1970.
-- Months before `months` are rolled up; rolling is how far that of `months` is. Of hours
-- and days from before two moments, hours since 1970 in UTC and days in the zone, rows
-- are removed. Days before seam may be those of a former zone.
ALTER TABLE statistics_state ADD COLUMN months BIGINT NOT NULL DEFAULT 0;
ALTER TABLE statistics_state ADD COLUMN rolling TEXT NOT NULL DEFAULT '';
ALTER TABLE statistics_state ADD COLUMN hours_from BIGINT NOT NULL DEFAULT 0;
ALTER TABLE statistics_state ADD COLUMN days_from BIGINT NOT NULL DEFAULT 0;
ALTER TABLE statistics_state ADD COLUMN seam BIGINT NOT NULL DEFAULT 0;
-- What a version that knows months has counted: where it is less than scans and
-- users_position say, an older one counted since.
ALTER TABLE statistics_state ADD COLUMN known_scans BIGINT NOT NULL DEFAULT 0;
ALTER TABLE statistics_state ADD COLUMN known_users BIGINT NOT NULL DEFAULT 0;
