-- What a call saved: the cost of the answer that was given again in its place. NULL when nothing was, or nobody knows.
ALTER TABLE usage_ledger ADD COLUMN saved_micro_usd bigint CHECK (saved_micro_usd >= 0);

-- Daily sums by the tags of calls too. A key's tags stay as they are, so the sums are hardly more than by key.
ALTER TABLE usage_daily
    ADD COLUMN tags text[] NOT NULL DEFAULT '{}',
    ADD COLUMN saved_micro_usd bigint NOT NULL DEFAULT 0,
    DROP CONSTRAINT usage_daily_pkey,
    ADD PRIMARY KEY (tenant, day, key_id, model, provider, feature, tags);

CREATE OR REPLACE FUNCTION usage_daily_add(since xid8, upto xid8) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_daily AS daily (day, tenant, key_id, model, provider, feature, tags, calls, input_tokens,
                                      output_tokens, cached_tokens, cost_micro_usd, calls_of_unknown_price,
                                      saved_micro_usd)
    SELECT (started_at AT TIME ZONE 'UTC')::date, tenant, coalesce(key_id, ''), model, provider, feature,
           coalesce(tags, '{}'), count(*), sum(input_tokens), sum(output_tokens), sum(cached_tokens),
           coalesce(sum(cost_micro_usd), 0), count(*) FILTER (WHERE cost_micro_usd IS NULL),
           coalesce(sum(saved_micro_usd), 0)
    FROM usage_ledger WHERE entered >= since AND entered < upto
    GROUP BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT (tenant, day, key_id, model, provider, feature, tags) DO UPDATE SET
        calls = daily.calls + excluded.calls,
        input_tokens = daily.input_tokens + excluded.input_tokens,
        output_tokens = daily.output_tokens + excluded.output_tokens,
        cached_tokens = daily.cached_tokens + excluded.cached_tokens,
        cost_micro_usd = daily.cost_micro_usd + excluded.cost_micro_usd,
        calls_of_unknown_price = daily.calls_of_unknown_price + excluded.calls_of_unknown_price,
        saved_micro_usd = daily.saved_micro_usd + excluded.saved_micro_usd;
END
$$;

-- The sums are made anew by the next minute's advance, which keeps no call waiting; until then reports read the ledger.
TRUNCATE usage_daily;
UPDATE usage_daily_mark SET upto = '0';
