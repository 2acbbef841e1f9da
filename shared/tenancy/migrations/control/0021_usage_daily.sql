-- Sums of the ledger by day (UTC), so that a month of millions of calls is added up in milliseconds.
-- The ledger stays the truth. Each of its rows carries the transaction that wrote it; sums hold exactly the rows of
-- transactions before a watermark, and whoever reads adds the rows from the watermark on, in the same statement.
CREATE TABLE usage_daily (
    day date NOT NULL,
    tenant text NOT NULL,
    key_id text NOT NULL,
    model text NOT NULL,
    provider text NOT NULL,
    feature text NOT NULL,
    calls bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    cost_micro_usd bigint NOT NULL,
    calls_of_unknown_price bigint NOT NULL,
    PRIMARY KEY (tenant, day, key_id, model, provider, feature)
);

-- One row. `system` is the server's identity: transaction numbers mean nothing on another one.
CREATE TABLE usage_daily_mark (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    system bigint NOT NULL,
    upto xid8 NOT NULL
);
INSERT INTO usage_daily_mark (system, upto) SELECT system_identifier, '0' FROM pg_control_system();

-- Add what transactions from `since` to before `upto` wrote.
CREATE FUNCTION usage_daily_add(since xid8, upto xid8) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_daily AS daily
    SELECT (started_at AT TIME ZONE 'UTC')::date, tenant, coalesce(key_id, ''), model, provider, feature,
           count(*), sum(input_tokens), sum(output_tokens), sum(cached_tokens), coalesce(sum(cost_micro_usd), 0),
           count(*) FILTER (WHERE cost_micro_usd IS NULL)
    FROM usage_ledger WHERE entered >= since AND entered < upto
    GROUP BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (tenant, day, key_id, model, provider, feature) DO UPDATE SET
        calls = daily.calls + excluded.calls,
        input_tokens = daily.input_tokens + excluded.input_tokens,
        output_tokens = daily.output_tokens + excluded.output_tokens,
        cached_tokens = daily.cached_tokens + excluded.cached_tokens,
        cost_micro_usd = daily.cost_micro_usd + excluded.cost_micro_usd,
        calls_of_unknown_price = daily.calls_of_unknown_price + excluded.calls_of_unknown_price;
END
$$;

-- All sums again, from the ledger: at first, and after a restore from a dump into another server. The rows there are
-- become those of transaction 0 (no real one), which rewrites none of them.
CREATE FUNCTION usage_daily_restart() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    ALTER TABLE usage_ledger DROP COLUMN IF EXISTS entered;
    ALTER TABLE usage_ledger ADD COLUMN entered xid8 NOT NULL DEFAULT '0';
    ALTER TABLE usage_ledger ALTER COLUMN entered SET DEFAULT pg_current_xact_id();
    CREATE INDEX usage_ledger_entered ON usage_ledger (entered);
    TRUNCATE usage_daily;
    PERFORM usage_daily_add('0', '1');
    UPDATE usage_daily_mark SET system = (SELECT system_identifier FROM pg_control_system()), upto = '1';
END
$$;
SELECT usage_daily_restart();

-- Move the watermark up to the oldest transaction that is still open: all before it have ended, so their rows are seen.
-- Several may call it at once; one killed in its middle leaves sums and watermark as they were.
CREATE FUNCTION usage_daily_advance() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    mark usage_daily_mark;
    next xid8;
BEGIN
    SELECT * INTO mark FROM usage_daily_mark FOR UPDATE;
    IF mark.system <> (SELECT system_identifier FROM pg_control_system()) THEN
        PERFORM usage_daily_restart();
        RETURN;
    END IF;
    next := pg_snapshot_xmin(pg_current_snapshot());
    IF next > mark.upto THEN
        PERFORM usage_daily_add(mark.upto, next);
        UPDATE usage_daily_mark SET upto = next;
    END IF;
END
$$;
