-- :scenes
-- How many scenes of this configuration are to be done, and how many are done.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT count(*) FILTER (WHERE btrim(d.status::text) IN ('ingested', 'inprogress')),
       count(*) FILTER (WHERE btrim(d.status::text) IN ('extracted', 'no_parcels'))
FROM {catalogue} d
WHERE btrim(d.card::text) = %(card)s AND {wanted}

-- :parcels
-- How many parcels a scene meets within the AOI, on average over some that lie evenly in time (`most`: how many).
WITH aoi AS MATERIALIZED (
{areas}
),
scene AS MATERIALIZED (
    SELECT d.id, {footprint} AS footprint, row_number() OVER (ORDER BY d.obstime, d.id) AS place, count(*) OVER () AS scenes
    FROM {catalogue} d
    WHERE btrim(d.card::text) = %(card)s AND {wanted} AND btrim(d.status::text) <> 'superseded'
),
part AS MATERIALIZED (
    SELECT scene.id, {in_parcels_srid} AS ground
    FROM (SELECT scene.id, ST_Intersection(scene.footprint, aoi.geometry) AS within
          FROM scene JOIN aoi ON ST_Intersects(scene.footprint, aoi.geometry)
          WHERE mod(scene.place, greatest(scenes / %(most)s, 1)) = 0) scene
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

-- :size
-- Bytes of a table with its indexes, and about how many rows it has; of all its partitions.
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::float8, coalesce(sum(greatest(reltuples, 0)), 0)::float8
FROM pg_class
WHERE oid = %(table)s::regclass OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %(table)s::regclass)
