-- +goose Up
-- The nodes whose journals may hold scans that are not in the log of all nodes.
-- told is the last question that a node answered by bringing all that it had.
CREATE TABLE scan_nodes (
    node    TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    name    TEXT NOT NULL,
    told    BIGINT NOT NULL,
    ended   BIGINT NOT NULL, -- position of its last scan
    shipped BIGINT NOT NULL, -- up to where they were brought
    stopped BIGINT NOT NULL, -- 1 = it ended in order
    seen_at BIGINT NOT NULL
);
INSERT INTO sequences (name, value) VALUES ('scan_ask', 0);
