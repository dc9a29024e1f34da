-- +goose Up
-- An explanation reads the oldest rules of a path, not all of them. What readers
-- wait for comes last.
-- postgres strongest lock: LOCK TABLE rules IN ACCESS EXCLUSIVE MODE;
CREATE INDEX rules_on_path_by_age ON rules (link_path, id);
DROP INDEX rules_on_path;
