-- Roots of the log's perfect subtrees of 4,096 leaves, so that a proof need not read every leaf. Derived, and proved
-- by what they are used for: a wrong one makes proofs that lead to no signed root.
CREATE TABLE audit_tiles (
    number bigint PRIMARY KEY,
    root bytea NOT NULL
);
