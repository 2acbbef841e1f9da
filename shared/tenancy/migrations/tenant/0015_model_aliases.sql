-- Names of a tenant's own for models of its providers. `defaults`: members of a request's body that it has where the caller
-- says nothing of them.
CREATE TABLE model_aliases (
    name text PRIMARY KEY,
    provider text NOT NULL,
    model text NOT NULL,
    defaults jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
