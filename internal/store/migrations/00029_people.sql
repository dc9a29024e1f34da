-- +goose Up
-- People and programs that may administer, and the browsers in which they are signed in.
CREATE TABLE people (
    name       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    role       TEXT NOT NULL,
    accounts   TEXT NOT NULL,   -- JSON, AppIDs that the role is limited to; [] = none
    password   TEXT NOT NULL,   -- argon2id as a PHC text; '' = none
    totp       TEXT NOT NULL,   -- the sealed secret of the second factor; '' = none
    totp_step  BIGINT NOT NULL, -- the last time step whose code was taken
    recovery   TEXT NOT NULL,   -- JSON, hashes of recovery codes that are left
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL  -- the last sign-in; 0 = never
);

CREATE TABLE admin_keys (
    id         TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    hash       TEXT COLLATE "binary" NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    role       TEXT NOT NULL,
    accounts   TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL, -- 0 = never
    seen_at    BIGINT NOT NULL
);

CREATE TABLE sessions (
    hash       TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    id         TEXT COLLATE "binary" NOT NULL UNIQUE,
    person     TEXT COLLATE "binary" NOT NULL, -- '' = the admin token's
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    ends_at    BIGINT NOT NULL,
    ip         TEXT NOT NULL,
    agent      TEXT NOT NULL
);
CREATE INDEX sessions_of_person ON sessions (person);

-- A link that signs in once.
CREATE TABLE login_links (
    hash    TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    person  TEXT COLLATE "binary" NOT NULL,
    ends_at BIGINT NOT NULL
);
