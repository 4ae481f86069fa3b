-- :scenes
-- By CARD, how many scenes of this configuration are to be done, how many are done, and some that lie evenly in time (`most`:
-- about how many).
WITH aoi AS MATERIALIZED (
{areas}
),
scene AS (
    SELECT d.id, d.obstime, btrim(d.card::text) AS card, btrim(d.status::text) AS status
    FROM {catalogue} d
    WHERE btrim(d.card::text) = ANY (%(cards)s) AND {wanted}
),
numbered AS (
    SELECT *, row_number() OVER same AS place, count(*) OVER (PARTITION BY card, status = 'superseded') AS scenes
    FROM scene WINDOW same AS (PARTITION BY card, status = 'superseded' ORDER BY obstime, id)
)
SELECT card,
       count(*) FILTER (WHERE status IN ('ingested', 'inprogress')),
       count(*) FILTER (WHERE status IN ('extracted', 'no_parcels')),
       array_agg(id) FILTER (WHERE status <> 'superseded' AND mod(place, greatest(scenes / %(most)s, 1)) = 0)
FROM numbered
GROUP BY card

-- :parcels
-- How many parcels a scene meets within the AOI, on average over some (`sample`). An outline of thousands of vertices, as it
-- has in another CRS, would be compared with each parcel: it loses those that make no difference of a metre or so.
WITH aoi AS MATERIALIZED (
{areas}
),
dense AS MATERIALIZED (
    SELECT scene.id, {in_parcels_srid} AS ground
    FROM (SELECT d.id, ST_Union(ST_Intersection(d.footprint, aoi.geometry)) AS within
          FROM (SELECT d.id, {footprint} AS footprint FROM {catalogue} d WHERE d.id = ANY (%(sample)s::bigint[]) OFFSET 0) d
          JOIN aoi ON ST_Intersects(d.footprint, aoi.geometry)
          GROUP BY d.id) scene
),
part AS MATERIALIZED (
    SELECT id, ST_SimplifyPreserveTopology(ground, (ST_XMax(ground) - ST_XMin(ground)) / 1e5) AS ground FROM dense
)
SELECT sum((SELECT count(*) FROM {parcels} p WHERE {geometry} && part.ground AND ST_Intersects({geometry}, part.ground)))
           ::float8 / nullif(count(DISTINCT part.id), 0)
FROM part

-- :measured
-- What attempts that ended well have taken and given on average: how many they were, parcels, rows, seconds.
SELECT count(*), avg(parcels_selected)::float8,
       avg((SELECT coalesce(sum(value::bigint), 0) FROM jsonb_each_text(rows_written)))::float8,
       avg(extract(epoch FROM finished_at - started_at))::float8
FROM {log}
WHERE card = %(card)s AND aoi = %(aoi)s AND results = %(results)s AND outcome IN ('extracted', 'no_parcels')
  AND status = outcome

-- :redone
-- How many scenes have been done again.
SELECT count(DISTINCT obsid) FROM {log}
WHERE card = %(card)s AND aoi = %(aoi)s AND results = %(results)s AND outcome = 'redone'

-- :size
-- Bytes of a table with its indexes, and about how many rows it has; of all its partitions whose rows have been counted. Those of
-- the table above these are the same ones once more.
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::float8, coalesce(sum(reltuples), 0)::float8
FROM pg_class
WHERE (oid = %(table)s::regclass OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %(table)s::regclass))
  AND reltuples > 0 AND relkind <> 'p'
