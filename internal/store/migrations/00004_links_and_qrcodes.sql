-- +goose Up
-- 1 linked, 2 and 12 waiting for one side, 3 refused.
ALTER TABLE links ADD COLUMN status BIGINT NOT NULL DEFAULT 1;
ALTER TABLE links ADD COLUMN unlinking BIGINT NOT NULL DEFAULT 0;
ALTER TABLE links ADD COLUMN notify_users BIGINT NOT NULL DEFAULT 0;
ALTER TABLE links ADD COLUMN show_profile BIGINT NOT NULL DEFAULT 0;
CREATE INDEX links_to ON links (mini_program, status);

-- Parametric QR codes of service accounts.
CREATE TABLE qrcodes (
    code       TEXT COLLATE "binary" NOT NULL PRIMARY KEY, -- what follows http://weixin.qq.com/q/
    ticket     TEXT COLLATE "binary" NOT NULL UNIQUE,
    account    TEXT COLLATE "binary" NOT NULL,
    action     TEXT COLLATE "binary" NOT NULL,
    scene      TEXT COLLATE "binary" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL -- 0 = permanent
);
CREATE UNIQUE INDEX qrcodes_permanent ON qrcodes (account, action, scene) WHERE expires_at = 0;
CREATE INDEX qrcodes_of ON qrcodes (account, expires_at);

-- Who scanned a code of a service account and so follows it.
CREATE TABLE followers (
    account TEXT COLLATE "binary" NOT NULL,
    openid  TEXT COLLATE "binary" NOT NULL,
    since   BIGINT NOT NULL,
    PRIMARY KEY (account, openid)
);

-- Events that wait to be sent to the message URLs of accounts.
INSERT INTO sequences (name, value) VALUES ('message', 0);
CREATE TABLE messages (
    id         BIGINT NOT NULL PRIMARY KEY,
    account    TEXT COLLATE "binary" NOT NULL,
    body       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    tries      BIGINT NOT NULL,
    due_at     BIGINT NOT NULL
);
CREATE INDEX messages_due ON messages (due_at, account);
CREATE INDEX messages_of ON messages (account, id);
