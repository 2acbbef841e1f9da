-- What the last `dcoder.quota.updated` event of each quota said. `taken`: what counts against the limit. `due_at`: when to
-- look whether it still holds though nobody calls; NULL when only calls or people change it.
CREATE TABLE quota_states (
    quota bigint PRIMARY KEY REFERENCES quotas ON DELETE CASCADE,
    version bigint NOT NULL,
    standing text NOT NULL CHECK (standing IN ('below', 'reached', 'spent')),
    amount bigint NOT NULL,
    taken bigint NOT NULL,
    resets_at timestamptz,
    told_at timestamptz NOT NULL,
    due_at timestamptz
);
CREATE INDEX quota_states_due ON quota_states (due_at) WHERE due_at IS NOT NULL;
