-- The audit outbox, written in the transaction of the change itself, and the sealed log.
CREATE TABLE audit_outbox (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    record bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX audit_outbox_order ON audit_outbox (tenant, created_at, id);

-- seq counts from 0 without gaps; both unique constraints make a fork impossible to store.
CREATE TABLE audit_log (
    seq bigint PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    previous bytea NOT NULL UNIQUE,
    record bytea NOT NULL,
    leaf bytea NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE audit_checkpoints (
    size bigint PRIMARY KEY,
    note text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The right edge of the tree: what is needed to go on without reading the log. It is derived, so it may change.
CREATE TABLE audit_frontier (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    size bigint NOT NULL,
    head bytea NOT NULL,
    frontier bytea[] NOT NULL,
    anchored bigint NOT NULL DEFAULT 0
);

CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_checkpoints_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
