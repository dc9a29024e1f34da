-- +goose Up
INSERT INTO sequences (name, value) VALUES ('push', 0);

ALTER TABLE grants ADD COLUMN refresh_token TEXT NOT NULL DEFAULT ''; -- sealed
ALTER TABLE grants ADD COLUMN granted_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX grants_of ON grants (appid, component);
CREATE INDEX grants_in_order ON grants (component, granted_at, appid);

-- The platform that calls for the account; '' = the account itself.
ALTER TABLE access_tokens ADD COLUMN component TEXT COLLATE "binary" NOT NULL DEFAULT '';

CREATE TABLE component_tickets (
    component TEXT COLLATE "binary" NOT NULL,
    hash      TEXT COLLATE "binary" NOT NULL,
    issued_at BIGINT NOT NULL,
    PRIMARY KEY (component, hash)
);
CREATE INDEX component_tickets_of ON component_tickets (component, issued_at);

-- Pre-authorisation codes and authorisation codes.
CREATE TABLE component_codes (
    hash       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    kind       TEXT NOT NULL,
    component  TEXT COLLATE "binary" NOT NULL,
    appid      TEXT NOT NULL, -- authorisation codes only
    expires_at BIGINT NOT NULL,
    used_at    BIGINT NOT NULL -- 0 = not yet
);
CREATE INDEX component_codes_expiring ON component_codes (expires_at);

-- What was, is and will be sent to the event URLs of platforms.
CREATE TABLE pushes (
    id         BIGINT NOT NULL PRIMARY KEY,
    component  TEXT COLLATE "binary" NOT NULL,
    info_type  TEXT NOT NULL,
    appid      TEXT NOT NULL,
    url        TEXT NOT NULL,
    sealed     TEXT NOT NULL, -- the message while it may have to be sent
    shown      TEXT NOT NULL, -- the same without its secrets
    created_at BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    next_at    BIGINT NOT NULL, -- 0 = nothing more is sent
    delivered  BIGINT NOT NULL,
    sent_at    BIGINT NOT NULL,
    status     BIGINT NOT NULL,
    answer     TEXT NOT NULL,
    fault      TEXT NOT NULL
);
CREATE INDEX pushes_of ON pushes (component, id);
CREATE INDEX pushes_due ON pushes (next_at);
