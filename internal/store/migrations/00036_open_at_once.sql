-- +goose Up
-- Until now ask_first chose the page with a button, and without it a browser was sent to the app. From now on the
-- page is what every account has, until its operator chooses otherwise: so each row begins with "no".
ALTER TABLE appearances RENAME COLUMN ask_first TO open_at_once;
UPDATE appearances SET open_at_once = 0;
