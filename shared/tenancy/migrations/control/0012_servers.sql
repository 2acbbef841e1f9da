-- Each server has a template of its own. The table `template` held the one of the control database's server.
CREATE TABLE templates (
    server text PRIMARY KEY,
    database text NOT NULL,
    version integer NOT NULL
);
INSERT INTO templates (server, database, version) SELECT 'default', database, version FROM template;

-- A tenant is moved: from `server` to `moving_to`. The same name in both says that the move is called off.
-- `leftover` is the server on which a database and a role of it are still to be dropped.
ALTER TABLE tenants
    ADD COLUMN moving_to text,
    ADD COLUMN leftover text,
    ADD COLUMN move_failure text,
    DROP CONSTRAINT tenants_state_check,
    ADD CONSTRAINT tenants_state_check
        CHECK (state IN ('creating', 'ready', 'moving', 'suspended', 'deleting', 'deleted')),
    ADD CONSTRAINT tenants_moving_check CHECK (state <> 'moving' OR moving_to IS NOT NULL);
DROP INDEX tenants_unfinished;
CREATE INDEX tenants_unfinished ON tenants (changed_at)
    WHERE state IN ('creating', 'deleting', 'moving') OR leftover IS NOT NULL;
