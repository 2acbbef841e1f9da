-- Vectors of a document that is still being embedded: an attempt that is cut short leaves them to the next one.
-- Gone when the document is searchable, refused or deleted.
CREATE TABLE kept_vectors (
    document_id uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
    content_hash bytea NOT NULL,
    embedding halfvec(384) NOT NULL,
    PRIMARY KEY (document_id, content_hash)
);
