-- The usage ledger: append-only, one row per call of a model, partitioned by month (UTC).
-- A cost that is not known is NULL, never zero: the price is unknown, or the provider did not say what was used.
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
    usage_known boolean NOT NULL,
    cost_micro_usd bigint,
    price_known boolean NOT NULL,
    CHECK ((cost_micro_usd IS NOT NULL) = (price_known AND usage_known)),
    PRIMARY KEY (id, started_at)
) PARTITION BY RANGE (started_at);
CREATE INDEX usage_ledger_of_tenant ON usage_ledger (tenant, started_at);

CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the usage ledger is append-only';
END
$$;
CREATE TRIGGER usage_ledger_append_only BEFORE UPDATE OR DELETE ON usage_ledger
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER usage_ledger_kept BEFORE TRUNCATE ON usage_ledger
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();

-- What no month takes: a clock far off. Never empty-handed, never in a month's way while months are made ahead.
CREATE TABLE usage_ledger_other PARTITION OF usage_ledger DEFAULT;
CREATE TRIGGER usage_ledger_kept BEFORE TRUNCATE ON usage_ledger_other
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();

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

-- The partitions of this month (UTC) and as many after it. Safe to call by several at once.
CREATE FUNCTION ledger_partitions(ahead int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    month timestamp;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('usage_ledger partitions'));
    FOR step IN 0 .. ahead LOOP
        month := first + make_interval(months => step);
        name := 'usage_ledger_' || to_char(month, 'YYYYMM');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF usage_ledger FOR VALUES FROM (%L) TO (%L)', name,
                           month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
            EXECUTE format('CREATE TRIGGER usage_ledger_kept BEFORE TRUNCATE ON %I
                            FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse()', name);
        END IF;
    END LOOP;
END
$$;
SELECT ledger_partitions(2);
