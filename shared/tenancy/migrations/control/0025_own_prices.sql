-- What tenants pay where it is not the published price. From its day on it holds for the model of that name, or for a
-- provider's model as `<provider>/<model>`. `cards` is what stands in a line of prices.tsv after the day.
-- `by_operator`: the tenant can read it and not change it.
CREATE TABLE own_prices (
    tenant text NOT NULL,
    model text NOT NULL CHECK (length(model) BETWEEN 1 AND 300),
    since date NOT NULL,
    cards text NOT NULL,
    by_operator boolean NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, model, since)
);
