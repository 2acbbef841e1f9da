-- Which keys have their prompts compressed, and how; keys that are rotated from one another share the first one's row.
CREATE TABLE compression_keys (
    key text PRIMARY KEY,
    modes text[] NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
-- Results of tools that were put aside: whose each is, sealed under the tenant's data key. Each time it is left out of a
-- prompt, its time begins anew.
CREATE TABLE compression_originals (
    id text PRIMARY KEY,
    owner text NOT NULL,
    sealed bytea NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX compression_originals_by_expiry ON compression_originals (expires_at);
-- What was saved, a row a call. `saved_tokens` is an estimate; `saved_micro_usd` is what those would have cost as input
-- that is in no provider's cache, null where the price is not known.
CREATE TABLE compression_savings (
    request_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    key_id text,
    model text NOT NULL,
    modes text[] NOT NULL,
    original_bytes bigint NOT NULL,
    sent_bytes bigint NOT NULL,
    saved_tokens bigint NOT NULL,
    saved_micro_usd bigint,
    PRIMARY KEY (at, request_id)
);
