-- Events that a function will never handle. One row per function and event, however often it died.
CREATE TABLE dead_letters (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant      text NOT NULL,
    function    text NOT NULL,
    event_id    text NOT NULL,
    event       jsonb NOT NULL,
    reason      text NOT NULL,
    attempts    integer NOT NULL CHECK (attempts >= 1),
    last_status integer,
    died_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    redriven_at timestamptz,
    redrives    integer NOT NULL DEFAULT 0,
    UNIQUE (function, event_id)
);
CREATE INDEX dead_letters_by_tenant ON dead_letters (tenant, died_at DESC, id DESC);
CREATE INDEX dead_letters_by_time ON dead_letters (died_at DESC, id DESC);

-- One row per `every` operation of the catalog. `reached` is the latest nominal time that was decided upon.
CREATE TABLE schedules (
    name      text PRIMARY KEY,
    function  text NOT NULL,
    operation text NOT NULL,
    cron      text NOT NULL,
    per       text NOT NULL CHECK (per IN ('platform', 'tenant')),
    zone      text NOT NULL,
    catch_up  text NOT NULL CHECK (catch_up IN ('skip', 'once', 'all')),
    reached   timestamptz NOT NULL,
    retired   boolean NOT NULL DEFAULT false
);

-- A claimed tick: whoever inserts the row emits the event, in the same transaction.
CREATE TABLE schedule_ticks (
    schedule   text NOT NULL,
    nominal    timestamptz NOT NULL,
    tenant     text NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (schedule, nominal, tenant)
);
CREATE INDEX schedule_ticks_by_time ON schedule_ticks (claimed_at);
