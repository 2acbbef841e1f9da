-- Hybrid search in one statement, over one snapshot.
--   $1 bigint[] terms of the question   $2 real[] how often each occurs   $3 text its vector
--   $4 int how many passages            $5 text  prefix of document names, or ''
-- Four legs: BM25 of passages, BM25 of whole documents, vectors of passages, and of documents (their two best passages).
-- BM25 with k1 = 1.2 and b = 0.75: k1 (1 - b) = 0.3, k1 b = 0.9. A filter changes which passages come, not their idf.
-- Common terms cost most and tell least. The two rarest terms find passages, and further ones, rarest first, while all of
-- them together stand in no more than 4,000 passages or a fifth of all. What they find is scored by every term.
-- Each leg's scores become z-scores; a passage that a leg did not find gets that leg's lowest.
WITH corpus AS MATERIALIZED (
    SELECT greatest(sum(chunks), 1)::float8 AS chunks, greatest(count(*), 1)::float8 AS documents,
           0.9 / greatest(sum(terms)::float8 / greatest(sum(chunks), 1), 1) AS per_chunk_term,
           0.9 / greatest(avg(terms)::float8, 1) AS per_document_term
    FROM indexed_documents
), counted AS MATERIALIZED (
    SELECT term, weight::float8, place::integer, df, rank() OVER rarest AS rarity, sum(df) OVER rarest AS hits
    FROM unnest($1::bigint[], $2::real[]) WITH ORDINALITY AS q (term, weight, place)
         CROSS JOIN LATERAL (SELECT count(*)::float8 AS df FROM postings p WHERE p.term = q.term) AS found
    WINDOW rarest AS (ORDER BY df, place)
), q AS MATERIALIZED (
    SELECT term, weight, place, rarity <= 2 OR hits <= greatest(4000, 0.2 * c.chunks) AS telling,
           ln(1 + (c.chunks - df + 0.5) / (df + 0.5)) AS idf
    FROM counted CROSS JOIN corpus c
), scope AS MATERIALIZED (
    SELECT i.d FROM indexed_documents i JOIN documents o ON o.id = i.document_id
    WHERE $5::text <> '' AND starts_with(o.name, $5)
), hits AS MATERIALIZED (
    SELECT q.place, p.n, p.d, p.tf,
           q.weight * q.idf * p.tf / (p.tf + 0.3::float8 + (SELECT per_chunk_term FROM corpus) * p.length) AS score
    FROM q JOIN postings p USING (term) WHERE telling
), document_hits AS MATERIALIZED (
    SELECT d, place, sum(tf)::float8 AS tf FROM hits GROUP BY d, place
), asked AS MATERIALIZED ( -- an array by the term's place: a subscript costs less than a join of every hit
    SELECT sum(q.idf) AS mass, array_agg(
               q.weight * ln(1 + (c.documents - coalesce(h.df, 0) + 0.5) / (coalesce(h.df, 0) + 0.5)) ORDER BY q.place
           ) AS document_weights
    FROM q CROSS JOIN corpus c
         LEFT JOIN (SELECT place, count(*)::float8 AS df FROM document_hits GROUP BY place) h USING (place)
), candidates AS MATERIALIZED (
    SELECT h.n, sum(h.score) AS score
    FROM hits h
    WHERE $5 = '' OR h.d IN (SELECT d FROM scope)
    GROUP BY h.n ORDER BY score DESC, h.n LIMIT 400
), lexical AS MATERIALIZED (
    SELECT c.n, found.d, found.score, found.mass
    FROM candidates c CROSS JOIN LATERAL (
        SELECT min(p.d) AS d, sum(q.idf) AS mass,
               sum(q.weight * q.idf * p.tf / (p.tf + 0.3::float8 + (SELECT per_chunk_term FROM corpus) * p.length)) AS score
        FROM q JOIN postings p ON p.term = q.term AND p.n = c.n
    ) found
    ORDER BY score DESC, c.n LIMIT 200
), document_lexical AS (
    SELECT h.d,
           sum((SELECT document_weights FROM asked)[h.place] * h.tf
               / (h.tf + 0.3::float8 + (SELECT per_document_term FROM corpus) * s.terms)) AS score
    FROM document_hits h JOIN indexed_documents s USING (d)
    WHERE $5 = '' OR h.d IN (SELECT d FROM scope)
    GROUP BY h.d ORDER BY score DESC, h.d LIMIT 200
), dense AS MATERIALIZED (
    SELECT n, d, -distance AS score -- the subquery: written out again here, the distance would be computed twice
    FROM (SELECT v.n, v.d, v.embedding <#> $3::halfvec AS distance
          FROM chunk_vectors v WHERE $5 = '' OR v.d IN (SELECT d FROM scope)
          ORDER BY distance, v.n LIMIT 200) nearest
), document_dense AS (
    SELECT d, avg(score) AS score
    FROM (SELECT d, score, row_number() OVER (PARTITION BY d ORDER BY score DESC) AS place FROM dense) ranked
    WHERE place <= 2 GROUP BY d
), lexical_z AS (
    SELECT n, score, mass, coalesce((score - avg(score) OVER ()) / nullif(stddev_pop(score) OVER (), 0), 0) AS z FROM lexical
), document_lexical_z AS (
    SELECT d, coalesce((score - avg(score) OVER ()) / nullif(stddev_pop(score) OVER (), 0), 0) AS z FROM document_lexical
), dense_z AS (
    SELECT n, score, coalesce((score - avg(score) OVER ()) / nullif(stddev_pop(score) OVER (), 0), 0) AS z FROM dense
), document_dense_z AS (
    SELECT d, coalesce((score - avg(score) OVER ()) / nullif(stddev_pop(score) OVER (), 0), 0) AS z FROM document_dense
), floors AS (
    SELECT coalesce((SELECT nullif(min(z), 0) FROM lexical_z), -1) AS lexical,
           coalesce((SELECT nullif(min(z), 0) FROM document_lexical_z), -1) AS document_lexical,
           coalesce((SELECT nullif(min(z), 0) FROM dense_z), -1) AS dense,
           coalesce((SELECT nullif(min(z), 0) FROM document_dense_z), -1) AS document_dense
), fused AS (
    SELECT found.n, found.d, l.score AS lexical_score, l.mass, v.score AS dense_score,
           1.0 * coalesce(l.z, f.lexical) AS lexical, 0.7 * coalesce(v.z, f.dense) AS dense,
           0.6 * coalesce(dl.z, f.document_lexical) AS document_lexical,
           0.5 * coalesce(dv.z, f.document_dense) AS document_dense
    FROM (SELECT n, d FROM lexical UNION SELECT n, d FROM dense) found
    LEFT JOIN lexical_z l USING (n) LEFT JOIN dense_z v USING (n)
    LEFT JOIN document_lexical_z dl USING (d) LEFT JOIN document_dense_z dv USING (d), floors f
    ORDER BY 1.0 * coalesce(l.z, f.lexical) + 0.7 * coalesce(v.z, f.dense)
             + 0.6 * coalesce(dl.z, f.document_lexical) + 0.5 * coalesce(dv.z, f.document_dense) DESC, found.n
    LIMIT $4
)
SELECT c.id, o.name AS document, i.document_id, i.version, c.ordinal, c.start_at, c.end_at, c.page, c.heading, c.text,
       f.lexical + f.dense + f.document_lexical + f.document_dense AS score,
       f.lexical, f.dense, f.document_lexical, f.document_dense,
       coalesce(f.lexical_score, 0) AS lexical_score, coalesce(f.dense_score, 0) AS dense_score,
       coalesce(f.mass / nullif((SELECT mass FROM asked), 0), 0) AS coverage
FROM fused f JOIN chunks c USING (n) JOIN indexed_documents i ON i.d = f.d JOIN documents o ON o.id = i.document_id
ORDER BY score DESC, f.n
