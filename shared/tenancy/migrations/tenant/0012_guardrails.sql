-- What a tenant wants looked for in what is said to and by its models; no row: nothing.
CREATE TABLE guardrails (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    kinds text[] NOT NULL,
    rules jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Where something was found, in characters of the text at the JSON pointer `path`; never the text itself.
-- `fingerprint`: a keyed hash of it, the same for the same text of this tenant.
CREATE TABLE guardrail_alerts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    request_id text NOT NULL,
    key_id text,
    direction text NOT NULL CHECK (direction IN ('request', 'answer')),
    kind text NOT NULL,
    rule text NOT NULL,
    path text NOT NULL,
    start_at integer NOT NULL,
    end_at integer NOT NULL,
    fingerprint text NOT NULL
);
CREATE INDEX guardrail_alerts_by_time ON guardrail_alerts (at, id);
