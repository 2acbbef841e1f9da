-- A tenant's own model providers. `sealed` is the API key under the tenant's data key.
CREATE TABLE provider_credentials (
    name text PRIMARY KEY,
    kind text NOT NULL,
    base_url text NOT NULL,
    models jsonb NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
