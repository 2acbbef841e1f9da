-- Virtual keys: never the key, only HMAC-SHA-256(pepper, secret).
CREATE TABLE virtual_keys (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    name text NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    role text NOT NULL,
    permissions text[],
    models text[],
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    replaced_by text,
    last_used_at timestamptz
);
CREATE INDEX virtual_keys_of_tenant ON virtual_keys (tenant, created_at);
