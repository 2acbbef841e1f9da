-- Which models operators let a tenant use, as <host>/<model> with * for anything. Without a row, all. It is not in the
-- tenant's own database, which the tenant's functions may write.
CREATE TABLE allowed_models (
    tenant text PRIMARY KEY,
    models text[] NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
