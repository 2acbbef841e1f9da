-- Functions that a tenant brings along, each a signed bundle of sources. Their processes run elsewhere.
--   traffic  wished: revision → per cent, together 100
--   serving  how calls are shared out; becomes `traffic` once each of its revisions answers
CREATE TABLE own_functions (
    tenant        text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name          text NOT NULL,
    next_revision integer NOT NULL DEFAULT 1,
    traffic       jsonb NOT NULL DEFAULT '{}',
    serving       jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    changed_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, name)
);

-- `address` is where the revision's process answers, `failure` why it does not start.
CREATE TABLE own_revisions (
    tenant     text NOT NULL,
    name       text NOT NULL,
    revision   integer NOT NULL,
    statement  bytea NOT NULL,
    signature  bytea NOT NULL,
    archive    bytea NOT NULL,
    address    text,
    failure    text,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, name, revision),
    FOREIGN KEY (tenant, name) REFERENCES own_functions ON DELETE CASCADE
);
