-- A tenant's data key, wrapped with the root key. Deleting the row makes everything sealed with it unreadable.
CREATE TABLE data_keys (
    tenant text PRIMARY KEY,
    wrapped bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The password of a tenant's database role, sealed with that data key.
CREATE TABLE role_passwords (
    tenant text PRIMARY KEY,
    sealed bytea NOT NULL
);
