-- Answers for questions that say the same in other words; off until a tenant wants it. `wrong_share_max`: the bound on wrong
-- answers that thresholds are learned for.
ALTER TABLE answer_cache
    ADD COLUMN semantic boolean NOT NULL DEFAULT false,
    ADD COLUMN wrong_share_max double precision NOT NULL DEFAULT 0.01 CHECK (wrong_share_max BETWEEN 0.001 AND 0.1);

-- Questions whose answers are kept. `scope`: a keyed hash of all that was asked but the last user turn's text, which is in
-- `question`, sealed. `application`: the same without the turns before it. `answer`: the key under which Redis has it.
CREATE TABLE semantic_entries (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    scope text NOT NULL,
    application text NOT NULL,
    question bytea NOT NULL,
    embedding halfvec(384) NOT NULL,
    answer text NOT NULL UNIQUE,
    at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
ALTER TABLE semantic_entries ALTER COLUMN embedding SET STORAGE PLAIN;
CREATE INDEX semantic_entries_by_scope ON semantic_entries (scope, at);
CREATE INDEX semantic_entries_by_expiry ON semantic_entries (expires_at);

-- Answers that were given so, and what was said of them: `correct` is null until somebody says.
CREATE TABLE semantic_hits (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    application text NOT NULL,
    entry uuid NOT NULL,
    similarity double precision NOT NULL,
    threshold double precision NOT NULL,
    correct boolean,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX semantic_hits_labelled ON semantic_hits (application, at) WHERE correct IS NOT NULL;
CREATE INDEX semantic_hits_unlabelled ON semantic_hits (at) WHERE correct IS NULL;
