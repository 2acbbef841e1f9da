-- Tenants and how far each has come. `version` is the newest number of its schema.
CREATE TABLE tenants (
    id text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('creating', 'ready', 'suspended', 'deleting', 'deleted')),
    server text NOT NULL DEFAULT 'default',
    database text NOT NULL UNIQUE,
    role text NOT NULL UNIQUE,
    version integer NOT NULL DEFAULT 0,
    migration_failure text,
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX tenants_unfinished ON tenants (changed_at) WHERE state IN ('creating', 'deleting');
CREATE INDEX tenants_version ON tenants (version) WHERE state = 'ready';

-- Which database is the newest template. Switched in one statement when a new one is built.
CREATE TABLE template (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    database text NOT NULL,
    version integer NOT NULL
);
