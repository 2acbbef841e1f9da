-- Whether a tenant's answers are kept and given again; no row: they are not. `epoch` is part of every key: what was kept
-- under another one is never found again.
CREATE TABLE answer_cache (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    enabled boolean NOT NULL,
    ttl_s integer NOT NULL CHECK (ttl_s BETWEEN 1 AND 2592000),
    epoch bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now()
);
