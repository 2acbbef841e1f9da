-- How the tenant's quotas stand, as `dcoder.quota.updated` events said; the newest version of each stays, whatever the
-- order they come in. A quota that was taken away is kept as `removed`, so that a late event does not bring it back.
CREATE TABLE quota_mirror (
    id bigint PRIMARY KEY,
    version bigint NOT NULL,
    scope text NOT NULL,
    name text NOT NULL,
    metric text NOT NULL,
    span text NOT NULL,
    hard boolean NOT NULL,
    amount bigint NOT NULL,
    used bigint NOT NULL,
    reserved bigint NOT NULL,
    standing text NOT NULL CHECK (standing IN ('below', 'reached', 'spent', 'removed')),
    resets_at timestamptz,
    told_at timestamptz NOT NULL
);
