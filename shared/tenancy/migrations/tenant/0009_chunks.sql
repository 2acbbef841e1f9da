-- The retrieval index. `d` and `n` are the short keys of documents and chunks inside it; `id` is what the outside sees.
-- Everything hangs on `documents`: a deleted document leaves nothing here.
CREATE TABLE indexed_documents (
    document_id uuid PRIMARY KEY REFERENCES documents ON DELETE CASCADE,
    d integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    version bigint NOT NULL,
    chunks integer NOT NULL,
    terms integer NOT NULL
);

CREATE TABLE chunks (
    n integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    document_id uuid NOT NULL REFERENCES indexed_documents ON DELETE CASCADE,
    ordinal integer NOT NULL,
    start_at integer NOT NULL,
    end_at integer NOT NULL CHECK (end_at >= start_at),
    page integer,
    heading text NOT NULL,
    text text NOT NULL,
    terms integer NOT NULL,
    content_hash bytea NOT NULL,
    UNIQUE (document_id, ordinal)
);
CREATE INDEX chunks_by_content ON chunks (content_hash);

-- Apart from the texts, so that the exact scan reads vectors only: 0.8 KB a chunk.
CREATE TABLE chunk_vectors (
    n integer PRIMARY KEY REFERENCES chunks ON DELETE CASCADE,
    d integer NOT NULL,
    embedding halfvec(384) NOT NULL
);
ALTER TABLE chunk_vectors ALTER COLUMN embedding SET STORAGE PLAIN;

-- One row per term (64 bits of its hash) and chunk; the covering index alone answers BM25. `length` repeats the
-- chunk's number of terms.
CREATE TABLE postings (
    term bigint NOT NULL,
    n integer NOT NULL REFERENCES chunks ON DELETE CASCADE,
    d integer NOT NULL,
    tf integer NOT NULL,
    length integer NOT NULL,
    PRIMARY KEY (term, n) INCLUDE (d, tf, length)
);
CREATE INDEX postings_by_chunk ON postings (n);
-- Index-only scans need the visibility map: vacuum after inserts sooner than at the default fifth of the table.
ALTER TABLE postings SET (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.05);
