-- Answers of /v1/responses: whose each is, so that nobody else reads it or goes on from it. `models`: the names under which
-- a key's scope may have its model. `items`: ids of what is in it. `tokens`: what going on from it adds to an input, at most.
-- `sealed`: what was asked and answered, under the tenant's data key; none where the provider keeps it.
CREATE TABLE responses (
    id text PRIMARY KEY,
    owner text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    models text[] NOT NULL,
    previous text,
    items text[] NOT NULL DEFAULT '{}',
    tokens bigint NOT NULL DEFAULT 0,
    sealed bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX responses_by_item ON responses USING gin (items);
CREATE INDEX responses_by_expiry ON responses (expires_at);
