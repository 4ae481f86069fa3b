-- :memory
-- Until the transaction ends, rows of some hundred parcels are sorted without temporary files.
SET LOCAL work_mem = '64MB'

-- :months
-- Scenes of this configuration by CARD, month and status.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT btrim(d.card::text), date_trunc('month', d.obstime::timestamp)::date, btrim(d.status::text), count(*)
FROM {catalogue} d
WHERE {wanted}
GROUP BY 1, 2, 3

-- :failures
-- Why scenes of this configuration have failed or were not found, as their last attempts say: CARD, status, reason, scenes, one
-- of them. The scene's name in a reason is left out, so that equal ones count together.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT card, status, reason, count(*), min(reference)
FROM (SELECT btrim(d.card::text) AS card, btrim(d.status::text) AS status, {reference} AS reference,
             replace(coalesce((SELECT r.detail FROM {log} r WHERE r.obsid = d.id AND r.finished_at IS NOT NULL
                               ORDER BY r.run_id DESC LIMIT 1), ''), {reference}, '...') AS reason
      FROM {catalogue} d
      WHERE btrim(d.status::text) IN ('failed', 'notfound') AND {wanted}) failed
GROUP BY card, status, reason
ORDER BY 4 DESC, 1, 2, 3

-- :outcomes
-- How attempts have ended, by CARD; NULL: not yet.
SELECT card, outcome, count(*) FROM {log} WHERE aoi = %(aoi)s GROUP BY card, outcome ORDER BY card, 3 DESC

-- :span
-- When the first and the last scene was done.
SELECT min(finished_at), max(finished_at) FROM {log} WHERE aoi = %(aoi)s AND outcome IN ('extracted', 'no_parcels', 'redone')

-- :throughput
-- Scenes done, rows written, and median seconds of a scene, by CARD and by hour, day or week (`unit`).
SELECT card, date_trunc(%(unit)s, finished_at AT TIME ZONE 'UTC'), count(*),
       sum((SELECT coalesce(sum(value::bigint), 0) FROM jsonb_each_text(rows_written)))::bigint,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - started_at)::float8),
       count(DISTINCT worker)
FROM {log}
WHERE aoi = %(aoi)s AND outcome IN ('extracted', 'no_parcels', 'redone')
GROUP BY 1, 2
ORDER BY 1, 2

-- :extent
-- The box of the AOI in the catalogue's CRS.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT ST_XMin(box), ST_YMin(box), ST_XMax(box), ST_YMax(box) FROM (SELECT ST_Extent(geometry) AS box FROM aoi) boxes

-- :outline
-- The AOI, as GeoJSON, without what is smaller than a `detail`.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT ST_AsGeoJSON(ST_SimplifyPreserveTopology(ST_Collect(geometry), %(detail)s), 5) FROM aoi

-- :cells
-- On how many days each cell of a grid on the AOI has been observed: those of scenes that are extracted and whose footprints
-- hold the middle of the cell. CARD and days are NULL where there is none.
WITH aoi AS MATERIALIZED (
{areas}
),
cell AS MATERIALIZED (
    SELECT x, y, ST_SetSRID(ST_MakePoint(%(west)s + (x + .5) * %(width)s, %(south)s + (y + .5) * %(height)s),
                            %(footprint_srid)s::integer) AS middle
    FROM generate_series(0, %(columns)s - 1) x, generate_series(0, %(rows)s - 1) y
    WHERE EXISTS (SELECT FROM aoi
                  WHERE ST_Intersects(geometry, ST_MakeEnvelope(%(west)s + x * %(width)s, %(south)s + y * %(height)s,
                                                                %(west)s + (x + 1) * %(width)s,
                                                                %(south)s + (y + 1) * %(height)s,
                                                                %(footprint_srid)s::integer)))
)
SELECT cell.x, cell.y, seen.card, seen.days
FROM cell LEFT JOIN LATERAL (
    SELECT btrim(d.card::text) AS card, count(DISTINCT d.obstime::date) AS days
    FROM {catalogue} d
    WHERE {footprint} && cell.middle
      AND CASE WHEN ST_SRID({footprint}) = %(footprint_srid)s::integer THEN ST_Intersects({footprint}, cell.middle) END
      AND d.status = 'extracted' AND d.obstime >= %(start)s AND d.obstime < %(end)s
    GROUP BY 1) seen ON true

-- :rows
-- About how many rows a table has, in all its partitions; if a `column` is named, without those in which an index finds them by
-- it. Where nobody has counted, the size tells: a row of results takes about 80 bytes.
WITH RECURSIVE part AS (
    SELECT %(table)s::regclass::oid AS oid
    UNION SELECT inhrelid FROM pg_inherits JOIN part ON inhparent = part.oid
)
SELECT coalesce(sum(CASE WHEN c.reltuples > 0 THEN c.reltuples ELSE pg_relation_size(c.oid) / 80 END), 0)::bigint
FROM part JOIN pg_class c USING (oid)
WHERE c.relkind IN ('r', 'm') AND NOT EXISTS (
    SELECT FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] AND a.attname = %(column)s
    JOIN pg_class named ON named.oid = i.indexrelid
    JOIN pg_am m ON m.oid = named.relam AND m.amname <> 'brin'
    WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL)

-- :sampled
-- A part of the parcel table `p`, the same one every time: whole pages of it.
TABLESAMPLE SYSTEM ({percent}) REPEATABLE (0)

-- :near
-- Whether parcel `p` may lie in the AOI, as an index tells. area: a row of the AOI in the parcels' CRS.
{geometry} && (SELECT ST_SetSRID(ST_Extent({area})::geometry, %(parcel_srid)s::integer) FROM aoi)

-- :sample
-- Parcels whose middle lies in the AOI: so many of them, in an order that has nothing to do with where they are, and is the same
-- every time.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT pid
FROM (SELECT {pid}::bigint AS pid,
             ST_Transform(ST_Centroid(ST_Envelope({geometry})), %(footprint_srid)s::integer) AS middle
      FROM {parcels} p {sampled}
      WHERE NOT ST_IsEmpty({geometry}) AND {pid} IS NOT NULL AND {near}) parcel
WHERE EXISTS (SELECT FROM aoi WHERE geometry && parcel.middle AND ST_Intersects(geometry, parcel.middle))
ORDER BY hashint8(pid), pid
LIMIT %(most)s

-- :known
-- Which of these parcels there are.
SELECT {pid}::bigint FROM {parcels} p WHERE {pid} = ANY (%(pids)s::bigint[])

-- :of_parcels
-- Rows of some parcels.
pid = ANY (%(pids)s::bigint[])

-- :is_clear
-- Whether an observation is one without clouds: as the histogram says (at most a tenth of the pixels), else the mean scene class
-- (vegetation or bare soil); NULL: nobody knows.
CASE WHEN card <> 's2' THEN true WHEN cloud_share IS NOT NULL THEN cloud_share <= 0.1 ELSE {classes} >= 4 AND {classes} < 6 END

-- :completeness
-- Of how many parcels there are how many observations, and clear ones, by CARD and month; and whether it is known of all which
-- are clear.
SELECT card, month, pid, count(*), count(*) FILTER (WHERE coalesce(clear, true)), bool_and(clear IS NOT NULL)
FROM (SELECT pid, card, date_trunc('month', obstime)::date AS month, {is_clear} AS clear
      FROM ({observations}) observation
      WHERE card = ANY (%(cards)s) AND obstime >= %(start)s AND obstime < %(end)s) seen
GROUP BY card, month, pid

-- :season
-- What is known of some parcels: one scene of each pass, and its rows.
SELECT seen.pid::bigint, seen.card, seen.obstime, seen.reference, seen.cloud_share, seen.clear, btrim(r.band::text), r.mean::float8,
       r.p25::float8, r.p50::float8, r.p75::float8
FROM (SELECT pid, obsid, card, obstime, reference, cloud_share, {is_clear} AS clear
      FROM ({observations}) observation
      WHERE card = ANY (%(cards)s) AND obstime >= %(start)s AND obstime < %(end)s OFFSET 0) seen
JOIN {results} r ON r.pid = seen.pid AND r.obsid = seen.obsid
WHERE r.pid = ANY (%(pids)s::bigint[])
ORDER BY seen.pid, seen.card, seen.obstime, seen.obsid
