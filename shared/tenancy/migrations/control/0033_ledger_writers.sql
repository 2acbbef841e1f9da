-- What the gateway writes for each call, as functions: a session plans their statements once and not for every group.

-- Calls that have begun. Told as soon as they are in memory, before they are on disk (decision 17): the caller's
-- statement is its whole transaction.
CREATE FUNCTION open_calls(calls json) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO usage_open (id, process, started_at, tenant, key_id, request_id, model, provider, feature, tags,
                            reserved_micro_usd, reserved_tokens)
    SELECT told.id, told.process, timestamptz 'epoch' + told.started_us * interval '1 microsecond', told.tenant,
           told.key_id, told.request_id, told.model, told.provider, told.feature, told.tags,
           told.reserved_micro_usd, told.reserved_tokens
      FROM json_to_recordset(calls) AS told (
               id uuid, process text, started_us bigint, tenant text, key_id text, request_id text, model text,
               provider text, feature text, tags text[], reserved_micro_usd bigint, reserved_tokens bigint)
    ON CONFLICT DO NOTHING;
END
$$;

-- Calls that have ended: each one's open row becomes a row of the ledger. Returns those that were not there already,
-- and the transaction that wrote them. The open rows go first, as in a sweep, which passes over those that are locked:
-- so neither waits for the other while the other waits for it.
CREATE FUNCTION end_calls(calls json) RETURNS TABLE (id uuid, xid bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    DELETE FROM usage_open USING json_to_recordset(calls) AS told (id uuid) WHERE usage_open.id = told.id;
    RETURN QUERY
    INSERT INTO usage_ledger (id, started_at, tenant, key_id, request_id, model, provider, feature, tags, outcome,
                              input_tokens, output_tokens, cached_tokens, usage_known, cost_micro_usd, price_known,
                              charged_micro_usd, charged_tokens, saved_micro_usd)
    SELECT told.id, timestamptz 'epoch' + told.started_us * interval '1 microsecond', told.tenant, told.key_id,
           told.request_id, told.model, told.provider, told.feature, told.tags, told.outcome, told.input_tokens,
           told.output_tokens, told.cached_tokens, told.usage_known, told.cost_micro_usd, told.price_known,
           told.charged_micro_usd, told.charged_tokens, told.saved_micro_usd
      FROM json_to_recordset(calls) AS told (
               id uuid, started_us bigint, tenant text, key_id text, request_id text, model text, provider text,
               feature text, tags text[], outcome text, input_tokens bigint, output_tokens bigint,
               cached_tokens bigint, usage_known boolean, cost_micro_usd bigint, price_known boolean,
               charged_micro_usd bigint, charged_tokens bigint, saved_micro_usd bigint)
    ON CONFLICT DO NOTHING
    RETURNING usage_ledger.id, pg_current_xact_id()::text::bigint;
END
$$;
