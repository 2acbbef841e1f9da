-- The key that opens a tenant's bucket of the object store and no other, for processes of that tenant alone. `sealed`
-- holds both halves, under the root key as role_passwords are. `brought`: an operator made it at the store; the platform
-- can neither make it anew nor end it.
CREATE TABLE object_keys (
    tenant  text PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    sealed  bytea NOT NULL,
    brought boolean NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
