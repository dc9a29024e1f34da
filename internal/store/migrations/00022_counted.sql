-- +goose Up
-- How many there are, so that nobody counts them row by row. Triggers keep these
-- tables with every change, whoever makes it: also a node of an earlier version.

-- Rules of an owner (target ''), of a service account that open one Mini Program, and
-- of all service accounts that open it (owner '').
CREATE TABLE rule_counts (
    owner  TEXT COLLATE "binary" NOT NULL,
    target TEXT COLLATE "binary" NOT NULL,
    n      BIGINT NOT NULL, -- no row = 0
    PRIMARY KEY (owner, target)
-- postgres: );
-- sqlite: ) WITHOUT ROWID;

-- The same rules of an owner in pieces of about 1,024: those whose id is first or more,
-- and less than first of the next piece.
CREATE TABLE rule_pieces (
    owner  TEXT COLLATE "binary" NOT NULL,
    target TEXT COLLATE "binary" NOT NULL,
    first  BIGINT NOT NULL,
    n      BIGINT NOT NULL,
    PRIMARY KEY (owner, target, first)
-- postgres: );
-- sqlite: ) WITHOUT ROWID;

-- Publishes of an owner in an hour since 1970. Months begin with an hour in every zone.
CREATE TABLE publish_counts (
    owner TEXT COLLATE "binary" NOT NULL,
    hour  BIGINT NOT NULL,
    n     BIGINT NOT NULL,
    PRIMARY KEY (owner, hour)
-- postgres: );
-- sqlite: ) WITHOUT ROWID;

CREATE INDEX rules_of_target ON rules (owner, target, id) WHERE kind = 'service_rule';

INSERT INTO rule_counts (owner, target, n)
    SELECT owner, '', COUNT(*) FROM rules GROUP BY owner
    UNION ALL SELECT owner, target, COUNT(*) FROM rules WHERE kind = 'service_rule' GROUP BY owner, target
    UNION ALL SELECT '', target, COUNT(*) FROM rules WHERE kind = 'service_rule' GROUP BY target;
INSERT INTO rule_pieces (owner, target, first, n)
    SELECT owner, '', MIN(id), COUNT(*)
    FROM (SELECT owner, id, (ROW_NUMBER() OVER (PARTITION BY owner ORDER BY id) - 1) / 1024 AS piece FROM rules) AS r
    GROUP BY owner, piece;
INSERT INTO rule_pieces (owner, target, first, n)
    SELECT owner, target, MIN(id), COUNT(*)
    FROM (SELECT owner, target, id, (ROW_NUMBER() OVER (PARTITION BY owner, target ORDER BY id) - 1) / 1024 AS piece
        FROM rules WHERE kind = 'service_rule') AS r
    GROUP BY owner, target, piece;
INSERT INTO publish_counts (owner, hour, n) SELECT owner, at / 3600000, COUNT(*) FROM publishes GROUP BY owner, at / 3600000;

-- New rules have the highest ids, so they belong into the last piece while it has room,
-- then they begin one. Others belong into the piece that their ids are in.
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_add AFTER INSERT ON rules BEGIN
-- sqlite:     INSERT INTO rule_counts (owner, target, n) VALUES (NEW.owner, '', 1)
-- sqlite:         ON CONFLICT (owner, target) DO UPDATE SET n = n + 1;
-- sqlite:     INSERT INTO rule_pieces (owner, target, first, n)
-- sqlite:         VALUES (NEW.owner, '', COALESCE((SELECT CASE WHEN n < 1024 OR EXISTS (SELECT 1 FROM rule_pieces
-- sqlite:             WHERE owner = NEW.owner AND target = '' AND first > NEW.id) THEN first END FROM rule_pieces
-- sqlite:             WHERE owner = NEW.owner AND target = '' AND first <= NEW.id ORDER BY first DESC LIMIT 1), NEW.id), 1)
-- sqlite:         ON CONFLICT (owner, target, first) DO UPDATE SET n = n + 1;
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_add_service AFTER INSERT ON rules WHEN NEW.kind = 'service_rule' BEGIN
-- sqlite:     INSERT INTO rule_counts (owner, target, n) VALUES (NEW.owner, NEW.target, 1), ('', NEW.target, 1)
-- sqlite:         ON CONFLICT (owner, target) DO UPDATE SET n = n + 1;
-- sqlite:     INSERT INTO rule_pieces (owner, target, first, n)
-- sqlite:         VALUES (NEW.owner, NEW.target, COALESCE((SELECT CASE WHEN n < 1024 OR EXISTS (SELECT 1 FROM rule_pieces
-- sqlite:             WHERE owner = NEW.owner AND target = NEW.target AND first > NEW.id) THEN first END FROM rule_pieces
-- sqlite:             WHERE owner = NEW.owner AND target = NEW.target AND first <= NEW.id ORDER BY first DESC LIMIT 1), NEW.id), 1)
-- sqlite:         ON CONFLICT (owner, target, first) DO UPDATE SET n = n + 1;
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_delete AFTER DELETE ON rules BEGIN
-- sqlite:     UPDATE rule_counts SET n = n - 1 WHERE owner = OLD.owner AND target = '';
-- sqlite:     DELETE FROM rule_counts WHERE owner = OLD.owner AND target = '' AND n = 0;
-- sqlite:     UPDATE rule_pieces SET n = n - 1 WHERE owner = OLD.owner AND target = '' AND first =
-- sqlite:         (SELECT MAX(first) FROM rule_pieces WHERE owner = OLD.owner AND target = '' AND first <= OLD.id);
-- sqlite:     DELETE FROM rule_pieces WHERE owner = OLD.owner AND target = '' AND n = 0 AND first =
-- sqlite:         (SELECT MAX(first) FROM rule_pieces WHERE owner = OLD.owner AND target = '' AND first <= OLD.id);
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_delete_service AFTER DELETE ON rules WHEN OLD.kind = 'service_rule' BEGIN
-- sqlite:     UPDATE rule_counts SET n = n - 1 WHERE owner IN (OLD.owner, '') AND target = OLD.target;
-- sqlite:     DELETE FROM rule_counts WHERE owner IN (OLD.owner, '') AND target = OLD.target AND n = 0;
-- sqlite:     UPDATE rule_pieces SET n = n - 1 WHERE owner = OLD.owner AND target = OLD.target AND first =
-- sqlite:         (SELECT MAX(first) FROM rule_pieces WHERE owner = OLD.owner AND target = OLD.target AND first <= OLD.id);
-- sqlite:     DELETE FROM rule_pieces WHERE owner = OLD.owner AND target = OLD.target AND n = 0 AND first =
-- sqlite:         (SELECT MAX(first) FROM rule_pieces WHERE owner = OLD.owner AND target = OLD.target AND first <= OLD.id);
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER rules_counted_target AFTER UPDATE OF target ON rules WHEN OLD.target <> NEW.target BEGIN
-- sqlite:     UPDATE rule_counts SET n = n - 1 WHERE owner IN (OLD.owner, '') AND target = OLD.target;
-- sqlite:     DELETE FROM rule_counts WHERE owner IN (OLD.owner, '') AND target = OLD.target AND n = 0;
-- sqlite:     UPDATE rule_pieces SET n = n - 1 WHERE owner = OLD.owner AND target = OLD.target AND first =
-- sqlite:         (SELECT MAX(first) FROM rule_pieces WHERE owner = OLD.owner AND target = OLD.target AND first <= OLD.id);
-- sqlite:     DELETE FROM rule_pieces WHERE owner = OLD.owner AND target = OLD.target AND n = 0 AND first =
-- sqlite:         (SELECT MAX(first) FROM rule_pieces WHERE owner = OLD.owner AND target = OLD.target AND first <= OLD.id);
-- sqlite:     INSERT INTO rule_counts (owner, target, n) VALUES (NEW.owner, NEW.target, 1), ('', NEW.target, 1)
-- sqlite:         ON CONFLICT (owner, target) DO UPDATE SET n = n + 1;
-- sqlite:     INSERT INTO rule_pieces (owner, target, first, n)
-- sqlite:         VALUES (NEW.owner, NEW.target, COALESCE((SELECT MAX(first) FROM rule_pieces
-- sqlite:             WHERE owner = NEW.owner AND target = NEW.target AND first <= NEW.id), NEW.id), 1)
-- sqlite:         ON CONFLICT (owner, target, first) DO UPDATE SET n = n + 1;
-- sqlite: END;
-- sqlite: -- +goose StatementEnd
-- sqlite: -- +goose StatementBegin
-- sqlite: CREATE TRIGGER publishes_counted AFTER INSERT ON publishes BEGIN
-- sqlite:     INSERT INTO publish_counts (owner, hour, n) VALUES (NEW.owner, NEW.at / 3600000, 1)
-- sqlite:         ON CONFLICT (owner, hour) DO UPDATE SET n = n + 1;
-- sqlite: END;
-- sqlite: -- +goose StatementEnd

-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION rules_counted_add() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     INSERT INTO rule_counts AS c (owner, target, n)
-- postgres:         SELECT owner, '', COUNT(*) FROM changed GROUP BY owner
-- postgres:         UNION ALL SELECT owner, target, COUNT(*) FROM changed WHERE kind = 'service_rule' GROUP BY owner, target
-- postgres:         UNION ALL SELECT '', target, COUNT(*) FROM changed WHERE kind = 'service_rule' GROUP BY target
-- postgres:         ORDER BY 1, 2
-- postgres:         ON CONFLICT (owner, target) DO UPDATE SET n = c.n + excluded.n;
-- postgres:     INSERT INTO rule_pieces AS p (owner, target, first, n)
-- postgres:         SELECT owner, target, CASE WHEN piece = 0 THEN COALESCE(last, MIN(id)) ELSE MIN(id) END, COUNT(*) FROM (
-- postgres:             SELECT k.owner, k.target, k.id, l.first AS last,
-- postgres:                 CASE WHEN l.within THEN 0
-- postgres:                     ELSE (COALESCE(l.n, 0) + ROW_NUMBER() OVER (PARTITION BY k.owner, k.target ORDER BY k.id) - 1) / 1024
-- postgres:                 END AS piece
-- postgres:             FROM (SELECT owner, '' AS target, id FROM changed
-- postgres:                 UNION ALL SELECT owner, target, id FROM changed WHERE kind = 'service_rule') AS k
-- postgres:             LEFT JOIN LATERAL (SELECT first, n, EXISTS (SELECT 1 FROM rule_pieces AS later
-- postgres:                     WHERE later.owner = k.owner AND later.target = k.target AND later.first > k.id) AS within
-- postgres:                 FROM rule_pieces WHERE owner = k.owner AND target = k.target AND first <= k.id
-- postgres:                 ORDER BY first DESC LIMIT 1) AS l ON true) AS r
-- postgres:         GROUP BY owner, target, piece, last
-- postgres:         ON CONFLICT (owner, target, first) DO UPDATE SET n = p.n + excluded.n;
-- postgres:     RETURN NULL;
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION rule_less(o TEXT, t TEXT, i BIGINT) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     UPDATE rule_counts SET n = n - 1 WHERE owner = o AND target = t;
-- postgres:     DELETE FROM rule_counts WHERE owner = o AND target = t AND n = 0;
-- postgres:     UPDATE rule_pieces SET n = n - 1 WHERE owner = o AND target = t AND first =
-- postgres:         (SELECT MAX(first) FROM rule_pieces WHERE owner = o AND target = t AND first <= i);
-- postgres:     DELETE FROM rule_pieces WHERE owner = o AND target = t AND n = 0 AND first =
-- postgres:         (SELECT MAX(first) FROM rule_pieces WHERE owner = o AND target = t AND first <= i);
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION rules_counted_delete() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     PERFORM rule_less(OLD.owner, '', OLD.id);
-- postgres:     IF OLD.kind = 'service_rule' THEN
-- postgres:         PERFORM rule_less(OLD.owner, OLD.target, OLD.id), rule_less('', OLD.target, 0);
-- postgres:     END IF;
-- postgres:     RETURN NULL;
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION rules_counted_target() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     PERFORM rule_less(OLD.owner, OLD.target, OLD.id), rule_less('', OLD.target, 0);
-- postgres:     INSERT INTO rule_counts AS c (owner, target, n) VALUES (NEW.owner, NEW.target, 1), ('', NEW.target, 1)
-- postgres:         ON CONFLICT (owner, target) DO UPDATE SET n = c.n + 1;
-- postgres:     INSERT INTO rule_pieces AS p (owner, target, first, n)
-- postgres:         VALUES (NEW.owner, NEW.target, COALESCE((SELECT MAX(first) FROM rule_pieces
-- postgres:             WHERE owner = NEW.owner AND target = NEW.target AND first <= NEW.id), NEW.id), 1)
-- postgres:         ON CONFLICT (owner, target, first) DO UPDATE SET n = p.n + 1;
-- postgres:     RETURN NULL;
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- postgres: -- +goose StatementBegin
-- postgres: CREATE FUNCTION publishes_counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
-- postgres:     INSERT INTO publish_counts AS c (owner, hour, n) SELECT owner, at / 3600000, COUNT(*) FROM changed GROUP BY owner, at / 3600000
-- postgres:         ON CONFLICT (owner, hour) DO UPDATE SET n = c.n + excluded.n;
-- postgres:     RETURN NULL;
-- postgres: END $$;
-- postgres: -- +goose StatementEnd
-- postgres: CREATE TRIGGER rules_counted_add AFTER INSERT ON rules REFERENCING NEW TABLE AS changed
-- postgres:     FOR EACH STATEMENT EXECUTE FUNCTION rules_counted_add();
-- postgres: CREATE TRIGGER rules_counted_delete AFTER DELETE ON rules FOR EACH ROW EXECUTE FUNCTION rules_counted_delete();
-- postgres: CREATE TRIGGER rules_counted_target AFTER UPDATE OF target ON rules FOR EACH ROW WHEN (OLD.target <> NEW.target)
-- postgres:     EXECUTE FUNCTION rules_counted_target();
-- postgres: CREATE TRIGGER publishes_counted AFTER INSERT ON publishes REFERENCING NEW TABLE AS changed
-- postgres:     FOR EACH STATEMENT EXECUTE FUNCTION publishes_counted();
