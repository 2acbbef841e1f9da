-- Limits of members and groups: those that a key belongs to, by the marks `member:<name>` and `group:<name>` in its tags.
ALTER TABLE quotas DROP CONSTRAINT quotas_scope_check;
ALTER TABLE quotas ADD CONSTRAINT quotas_scope_check
    CHECK (scope IN ('tenant', 'key', 'member', 'group', 'tag', 'model'));

-- What becomes of a stream when a hard limit on money or tokens has no more room: it was reserved whole before it began
-- and finishes, or it is reserved as it goes and stops between two events.
ALTER TABLE quotas ADD COLUMN at_limit text NOT NULL DEFAULT 'finish' CHECK (at_limit IN ('finish', 'stop'));

-- `stopped`: a stream that a limit has ended.
ALTER TABLE usage_ledger DROP CONSTRAINT usage_ledger_outcome_check;
ALTER TABLE usage_ledger ADD CONSTRAINT usage_ledger_outcome_check
    CHECK (outcome IN ('done', 'client_gone', 'provider_error', 'cut', 'stopped', 'unknown')) NOT VALID;
