CREATE TABLE orgs (
    id INTEGER PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL
) STRICT;

CREATE TABLE users (
    -- An id never comes again, so nobody is taken for one who was deleted.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    org_id INTEGER NOT NULL REFERENCES orgs,
    name TEXT NOT NULL,
    email TEXT NOT NULL UNIQUE COLLATE NOCASE,
    -- An Argon2 hash; none before a password is chosen.
    password TEXT
) STRICT;

CREATE INDEX users_of_org ON users (org_id, id);

CREATE TABLE transfers (
    id INTEGER PRIMARY KEY,
    -- No reference: what was done is kept when the user goes.
    user_id INTEGER NOT NULL,
    from_org INTEGER NOT NULL REFERENCES orgs,
    to_org INTEGER NOT NULL REFERENCES orgs,
    at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT;
