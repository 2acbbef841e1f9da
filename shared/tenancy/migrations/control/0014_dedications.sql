-- Functions that serve a tenant from a process of its own. `address` is where that is, once it answers.
--   asked    somebody wishes it; the pooled function serves the tenant
--   serving  the pooled function hands the tenant's calls and events to `address`
--   ending   the pooled function serves the tenant again; the process of its own may go
CREATE TABLE dedications (
    tenant     text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    function   text NOT NULL,
    state      text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'serving', 'ending')),
    address    text,
    asked_at   timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, function),
    CHECK (state <> 'serving' OR address IS NOT NULL)
);
