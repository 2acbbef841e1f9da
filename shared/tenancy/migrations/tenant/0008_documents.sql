-- Documents: one row per object under documents/ of the tenant's bucket, always in exactly one state.
-- `generation` rises with every content seen and every claim; what commits under an older one loses.
CREATE TABLE documents (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE,
    generation bigint NOT NULL DEFAULT 1,
    etag text NOT NULL,
    bytes bigint NOT NULL,
    content_type text NOT NULL DEFAULT '',
    state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'parsing', 'embedding', 'searchable', 'rejected', 'quarantined')),
    reason text NOT NULL DEFAULT '',
    detail text NOT NULL DEFAULT '',
    attempts integer NOT NULL DEFAULT 0,
    lease_event text NOT NULL DEFAULT '',
    lease_until timestamptz,
    progress real NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 0,
    chunks integer NOT NULL DEFAULT 0,
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    searchable_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((lease_until IS NOT NULL) = (state IN ('parsing', 'embedding')))
);
CREATE INDEX documents_waiting ON documents (queued_at) WHERE state IN ('queued', 'parsing', 'embedding');

-- The normalised text that chunk offsets point into, and against which quotations are checked.
CREATE TABLE document_texts (
    document_id uuid PRIMARY KEY REFERENCES documents ON DELETE CASCADE,
    version bigint NOT NULL,
    text text NOT NULL
);
