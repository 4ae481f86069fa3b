-- :as_it_is_now
-- What others have committed is seen, whatever the database's default.
SET TRANSACTION ISOLATION LEVEL READ COMMITTED

-- :alone
-- Nobody else who ingests comes between looking what is there and adding what is not.
SELECT pg_advisory_xact_lock(1128418564, hashtext(%(catalogue)s))

-- :known
-- Of some names without `.SAFE`, those that the catalogue has, with or without: with their scene.
SELECT name, c.id FROM unnest(%(names)s::text[]) name JOIN {catalogue} c ON c.reference = name
UNION ALL
SELECT name, c.id FROM unnest(%(names)s::text[]) name JOIN {catalogue} c ON c.reference = name || '.SAFE'

-- :boxes
-- The boxes that enclose the area in degrees: one for each group of its parts that are near each other. With each, what
-- tells this area from any other.
WITH aoi AS ({areas}),
     area AS (SELECT md5(string_agg(part, '' ORDER BY part)) AS digest
              FROM (SELECT md5(ST_AsBinary(geometry)) AS part FROM aoi) parts),
     parts AS (SELECT ST_Envelope((ST_Dump({in_degrees})).geom) AS box FROM aoi
               WHERE NOT ST_IsEmpty(geometry)),
     groups AS (SELECT unnest(ST_ClusterWithin(box, 3)) AS box FROM parts)
SELECT ST_XMin(box), ST_YMin(box), ST_XMax(box), ST_YMax(box), digest FROM groups, area ORDER BY 1, 2

-- :meeting
-- Which of some outlines (4326) meet the area, by their place in the list.
WITH aoi AS MATERIALIZED ({areas})
SELECT d.place
FROM (SELECT place, {transformed} AS footprint
      FROM unnest(%(outlines)s::text[]) WITH ORDINALITY AS given(outline, place),
           LATERAL (SELECT outline::geometry AS raw) r) d
WHERE {met}

-- :add
-- A row for each product. One that somebody else adds at the same moment, by other means, is theirs.
INSERT INTO {catalogue} ({columns})
SELECT {values}
FROM unnest(%(obstimes)s::timestamp[], %(references)s::text[], %(cards)s::text[], %(outlines)s::text[])
     AS given(obstime, reference, card, outline),
     LATERAL (SELECT outline::geometry AS raw) r
ORDER BY obstime, reference
ON CONFLICT DO NOTHING
RETURNING id, reference

-- :add_places
-- Where products lie; what is known already stays.
INSERT INTO {places} (obsid, bucket, prefix)
SELECT obsid, bucket, prefix
FROM unnest(%(scenes)s::integer[], %(buckets)s::text[], %(prefixes)s::text[]) AS given(obsid, bucket, prefix)
WHERE NOT EXISTS (SELECT FROM {places} p WHERE p.obsid = given.obsid)
ON CONFLICT DO NOTHING

-- :moved
-- Which of some scenes lie elsewhere than was known: of those that nobody has begun with, or that have failed. Where nothing
-- is known, a product that was not found where it usually is. The configured bucket (`usual`) may be written out.
SELECT given.obsid
FROM unnest(%(scenes)s::integer[], %(buckets)s::text[], %(prefixes)s::text[]) AS given(obsid, bucket, prefix)
JOIN {catalogue} d ON d.id = given.obsid
LEFT JOIN {places} p ON p.obsid = given.obsid
WHERE (rtrim(d.status::text) = 'notfound' OR rtrim(d.status::text) IN ('ingested', 'failed') AND p.obsid IS NOT NULL)
  AND (nullif(nullif(btrim(p.bucket), ''), %(usual)s), btrim(p.prefix, ' /')) IS DISTINCT FROM (given.bucket, btrim(given.prefix, ' /'))

-- :move
-- Where they lie by now.
UPDATE {places} p SET bucket = given.bucket, prefix = given.prefix
FROM unnest(%(scenes)s::integer[], %(buckets)s::text[], %(prefixes)s::text[]) AS given(obsid, bucket, prefix)
WHERE p.obsid = given.obsid

-- :withdraw
-- Scenes that nobody has begun with are not to be begun with any more.
UPDATE {catalogue} SET status = 'superseded' WHERE id = ANY(%(scenes)s) AND rtrim(status) = 'ingested'
RETURNING rtrim(reference::text)

-- :withdrawn
-- Scenes that are superseded though no worker has found a newer one in their place (`by_workers`).
SELECT id, rtrim(reference::text) FROM {catalogue} d
WHERE id = ANY(%(scenes)s) AND rtrim(status) = 'superseded' AND NOT {by_workers}
ORDER BY id

-- :by_workers
-- Whether workers have found that a newer product has taken the place of scene `d`.
EXISTS (SELECT FROM {log} r WHERE r.obsid = d.id AND r.outcome = 'superseded')

-- :by_nobody
-- The same without a log, or without the right to read it.
false

-- :may_read_log
-- Whether that can be asked.
SELECT has_column_privilege(%(log)s, 'obsid', 'SELECT') AND has_column_privilege(%(log)s, 'outcome', 'SELECT')

-- :restore
-- Workers may begin with these scenes again.
UPDATE {catalogue} SET status = 'ingested' WHERE id = ANY(%(scenes)s) AND rtrim(status) = 'superseded'

-- :statuses
-- What has become of some scenes.
SELECT rtrim(reference::text), rtrim(status) FROM {catalogue} WHERE id = ANY(%(scenes)s) ORDER BY id

-- :in_srid
-- An outline in the catalogue's SRID. A straight edge in one CRS is a curve in another, so it gets vertices in between: some
-- 200 in all, since workers look at all of them with every claim.
ST_Transform(ST_Segmentize(raw, greatest(ST_Perimeter(raw) / 200, 1e-9)), %(footprint_srid)s::integer)
