-- +goose Up
-- Where GS1 keys lead. Decision 69.
CREATE TABLE gs1_links (
    key        TEXT COLLATE "binary" NOT NULL PRIMARY KEY, -- 01/09506000134352/10/LOT
    root       TEXT COLLATE "binary" NOT NULL, -- its primary key: 01/09506000134352
    owner      TEXT COLLATE "binary" NOT NULL, -- AppID; '' = the operator
    app        TEXT NOT NULL, -- AppID of the Mini Program that opens; '' = the owner's
    page       TEXT NOT NULL, -- '' = none opens
    links      TEXT NOT NULL, -- JSON
    archived   BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);
CREATE INDEX gs1_links_of_root ON gs1_links (root);
CREATE INDEX gs1_links_of_owner ON gs1_links (owner, key);
