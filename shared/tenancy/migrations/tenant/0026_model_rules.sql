-- What becomes of a request's and an answer's body under an alias: {"set": {path: value}, "without": [path]}.
ALTER TABLE model_aliases ADD COLUMN request jsonb NOT NULL DEFAULT '{}', ADD COLUMN answer jsonb NOT NULL DEFAULT '{}';

-- Names for several models, which a key's scope may have as group/<name>.
CREATE TABLE model_groups (
    name text PRIMARY KEY,
    models text[] NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
