-- The usage ledger: append-only, one row per call of a model, partitioned by month.
CREATE TABLE usage_ledger (
    id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant text NOT NULL,
    key_id text,
    request_id text NOT NULL,
    model text NOT NULL,
    provider text NOT NULL,
    feature text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('done', 'client_gone', 'provider_error', 'cut', 'unknown')),
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    cached_tokens bigint NOT NULL DEFAULT 0,
    cost_micro_usd bigint,
    price_known boolean NOT NULL,
    CHECK (price_known = (cost_micro_usd IS NOT NULL)),
    PRIMARY KEY (id, started_at)
) PARTITION BY RANGE (started_at);
CREATE INDEX usage_ledger_of_tenant ON usage_ledger (tenant, started_at);
CREATE TABLE usage_ledger_other PARTITION OF usage_ledger DEFAULT;

CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the usage ledger is append-only';
END
$$;
CREATE TRIGGER usage_ledger_append_only BEFORE UPDATE OR DELETE ON usage_ledger
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse();

-- Calls that have begun. Each is moved to the ledger in one statement when it ends, by its process or by the sweeper.
CREATE TABLE usage_open (
    id uuid PRIMARY KEY,
    process text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant text NOT NULL,
    key_id text,
    request_id text NOT NULL,
    model text NOT NULL,
    provider text NOT NULL,
    feature text NOT NULL
);
CREATE INDEX usage_open_seen ON usage_open (seen_at);

CREATE FUNCTION ledger_partition(month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text := 'usage_ledger_' || to_char(month, 'YYYYMM');
BEGIN
    IF to_regclass(name) IS NULL THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF usage_ledger FOR VALUES FROM (%L) TO (%L)',
                       name, month, (month + interval '1 month')::date);
    END IF;
END
$$;
SELECT ledger_partition((date_trunc('month', now()) + make_interval(months => ahead))::date)
    FROM generate_series(0, 2) AS ahead;
