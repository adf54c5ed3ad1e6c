-- The journal's tables. The log of each project is a table of its own, event_<project id>, made with
-- the project (tables.py). An event's id is (project id << 40) + its index, so a log is one
-- contiguous run of keys and needs no index. The look-up by unique key is derived from these rows
-- and lies in a file of its own (unique.py).
CREATE TABLE project (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    kind          TEXT NOT NULL CHECK (kind IN ('live', 'test')),
    secret        BLOB NOT NULL,   -- keys the HMAC of client ids; part of the journal's backup
    monthly_limit INTEGER,         -- most product events in a calendar month; NULL: no limit
    bot_policy    TEXT CHECK (bot_policy IN ('discard', 'mark', 'off')),
    created_at_ms INTEGER NOT NULL,
    ledger_access TEXT NOT NULL DEFAULT 'key' CHECK (ledger_access IN ('key', 'public')),
    retention_days INTEGER,  -- product and audit events are erased after so many days; NULL: never
    audit_monthly_limit INTEGER,   -- the same for audit events, which are counted apart
    legal_hold    INTEGER NOT NULL DEFAULT 0  -- 1: nothing of the project is erased
);

-- The signed log of each project. A row in state `new` was ordered, with its project, and has signed
-- nothing; in state `open` its key and its place in lock.db must be there; `frozen` ones are the
-- predecessors of a log that was opened anew after a restore.
CREATE TABLE log (
    name       TEXT PRIMARY KEY,     -- of its folder and key file: the project's, or <project>.2
    project_id INTEGER NOT NULL REFERENCES project (id),
    origin     TEXT UNIQUE,          -- NULL, as the key, until the key is made
    vkey       TEXT,
    state      TEXT NOT NULL CHECK (state IN ('new', 'open', 'frozen')),
    shard      INTEGER NOT NULL DEFAULT 0  -- of the project's log; there is only 0 today
);

-- `token` is the public project token, kept readable; of every other key only the digest is kept.
CREATE TABLE access_key (
    id            TEXT PRIMARY KEY,
    project_id    INTEGER REFERENCES project (id),   -- NULL: the whole server
    role          TEXT NOT NULL CHECK (role IN ('token', 'application', 'admin')),
    digest        BLOB NOT NULL UNIQUE,
    token         TEXT,
    prefix        TEXT NOT NULL,
    label         TEXT NOT NULL,
    networks      TEXT NOT NULL,    -- comma-separated; empty: any address
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,          -- set by rotation: the old key lives on until then
    revoked_at_ms INTEGER,
    fixed         INTEGER NOT NULL, -- 1: given by the server's environment
    rate          REAL,             -- most events a second; NULL: no limit
    burst         INTEGER,          -- most events at once; NULL as the rate is
    origins       TEXT NOT NULL DEFAULT '', -- comma-separated; empty: pages of any origin
    scopes        TEXT NOT NULL DEFAULT ''  -- comma-separated; empty: all that its role may have
);

-- Events stored by calendar month. The lanes are apart: what a public token sends takes nothing from
-- the limit of audit events.
CREATE TABLE usage (
    project_id INTEGER NOT NULL REFERENCES project (id),
    month      TEXT NOT NULL,
    lane       TEXT NOT NULL CHECK (lane IN ('product', 'audit')),
    events     INTEGER NOT NULL,
    PRIMARY KEY (project_id, month, lane)
) WITHOUT ROWID;
