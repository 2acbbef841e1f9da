-- What a tenant, a key, a tag or a model may use. In force half a second after it was made, when every process knows it.
-- `by_operator`: the tenant can read it and not change it.
CREATE TABLE quotas (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    scope text NOT NULL CHECK (scope IN ('tenant', 'key', 'tag', 'model')),
    name text NOT NULL DEFAULT '',
    metric text NOT NULL CHECK (metric IN ('micro_usd', 'tokens', 'requests', 'parallel')),
    span text NOT NULL CHECK (span ~ '^(ever|calendar:(minute|hour|day|week|month)|rolling:[1-9][0-9]{1,7})$'),
    amount bigint NOT NULL CHECK (amount BETWEEN 0 AND 1125899906842624),
    hard boolean NOT NULL DEFAULT true,
    by_operator boolean NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((scope = 'tenant') = (name = '')),
    CHECK (metric <> 'parallel' OR span = 'ever'),
    UNIQUE (tenant, scope, name, metric, span, hard)
);

-- To whom or what a key's usage is put down. `key:<id>` is the first of the keys that this one was rotated from: what
-- limits that one limits this one.
ALTER TABLE virtual_keys ADD COLUMN tags text[] NOT NULL DEFAULT '{}';

-- What budgets count: the cost and tokens where they are known, else what was reserved. NULL in rows of before.
ALTER TABLE usage_ledger
    ADD COLUMN charged_micro_usd bigint,
    ADD COLUMN charged_tokens bigint,
    ADD COLUMN tags text[];
ALTER TABLE usage_open
    ADD COLUMN reserved_micro_usd bigint NOT NULL DEFAULT 0,
    ADD COLUMN reserved_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN tags text[];
CREATE INDEX usage_open_of_tenant ON usage_open (tenant);
