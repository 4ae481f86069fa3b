-- :selection
-- The parcels that really meet both the footprint and the AOI. Footprint and AOI are brought to the parcels' SRID, so
-- that the parcels' spatial index is used. ORDER BY geometry keeps neighbours together (Hilbert curve). Curves become
-- polygons, Z and M are dropped.
-- OFFSET 0 keeps the planner from computing `shape` anew wherever it is mentioned; materialised, hundreds of thousands of
-- parcels would go through temporary files twice.
WITH scene AS MATERIALIZED (
    SELECT {outline} AS outline FROM {catalogue} d WHERE d.id = %(obsid)s
),
footprint AS MATERIALIZED (
    SELECT {footprint} AS geometry FROM scene
),
around AS MATERIALIZED (
    -- A fifth of a degree around the footprint, more than any parcel is long: what of the AOI lies outside cannot
    -- matter, and might not be transformable to the parcels' SRID.
    SELECT ST_Union(ST_Expand(ST_Envelope((part).geom), 0.2)) AS geometry FROM scene, ST_Dump(outline) part
),
aoi AS MATERIALIZED (
    SELECT {area} AS geometry
    FROM (SELECT ST_Intersection(ST_Union(areas.geometry), (SELECT geometry FROM around)) AS area
          FROM (
{areas}
               ) areas OFFSET 0) clipped
),
-- Often the AOI is a country and the footprint lies in it: then no parcel has to be held against the AOI.
inside AS MATERIALIZED (
    SELECT coalesce(ST_Covers(aoi.geometry, footprint.geometry), false) AS yes FROM aoi, footprint
),
candidates AS NOT MATERIALIZED (
    SELECT {pid} AS pid,
           {geometry} AS original,
           CASE
               WHEN ST_GeometryType({geometry}) IN ('ST_Polygon', 'ST_MultiPolygon') THEN ST_Force2D({geometry})
               WHEN ST_GeometryType({geometry}) IN ('ST_CurvePolygon', 'ST_MultiSurface')
                   THEN ST_Force2D(ST_CurveToLine({geometry}))
               WHEN ST_GeometryType({geometry}) = 'ST_GeometryCollection'
                   THEN ST_CollectionExtract(ST_Force2D(ST_CurveToLine({geometry})), 3)
           END AS shape
    FROM {parcels} p
    WHERE {geometry} && (SELECT geometry FROM footprint)
      AND {geometry} && (SELECT geometry FROM aoi)
      AND {chosen}
    OFFSET 0
),
selected AS NOT MATERIALIZED (
    SELECT pid, original,
           CASE WHEN NOT ST_IsEmpty(shape) THEN shape END AS shape
    FROM candidates
    WHERE CASE
              WHEN shape IS NULL OR ST_IsEmpty(shape)
                  THEN coalesce({intersects}(original, (SELECT geometry FROM footprint)), true)
                   AND coalesce({intersects}(original, (SELECT geometry FROM aoi)), true)
              WHEN {sound}
                  THEN ST_Intersects(shape, (SELECT geometry FROM footprint))
                   AND ({inside} OR ST_Intersects(shape, (SELECT geometry FROM aoi)))
              ELSE coalesce({intersects}(shape, (SELECT geometry FROM footprint)), true)
               AND coalesce({intersects}(shape, (SELECT geometry FROM aoi)), true)
          END
    OFFSET 0
)
{what}

-- :stream
-- All of the selection, in the CRS of the scene's files. No field is ever NULL, and the one of varying length comes
-- last: so every row has the same layout.
SELECT coalesce(pid, 0)::bigint,
       (CASE WHEN pid IS NULL THEN 2
             WHEN shape IS NULL THEN 1
             WHEN ST_NPoints(shape) > %(most_vertices)s THEN 3
             ELSE 0 END)::smallint,
       coalesce(CASE WHEN ST_NPoints(shape) <= %(most_vertices)s
                     THEN ST_AsBinary({transform}(shape, %(scene_srid)s::integer)) END, ''::bytea)
FROM selected
ORDER BY original

-- :fetch
-- The selection (`stream`, with its values in it), to be read as it comes.
COPY ({selection}) TO STDOUT (FORMAT binary)

-- :boxes
-- Which of the boxes, given in the scene's CRS, can hold parcels that will be selected; by bounding boxes of the parcels,
-- so a few too many. In the order in which the selection comes.
, box AS MATERIALIZED (
    SELECT number, ST_Transform(
               ST_Segmentize(ST_MakeEnvelope(west, south, east, north, %(scene_srid)s), (east - west) / 8),
               %(parcel_srid)s::integer) AS geometry
    FROM unnest(%(west)s::float8[], %(south)s::float8[], %(east)s::float8[], %(north)s::float8[])
         WITH ORDINALITY AS b (west, south, east, north, number)
)
SELECT number::integer - 1
FROM box
WHERE ST_Intersects(box.geometry, (SELECT geometry FROM footprint))
  AND ST_Intersects(box.geometry, (SELECT geometry FROM aoi))
  -- A subquery with LIMIT rather than EXISTS: that would become one join of everything with everything.
  AND (SELECT true FROM {parcels} p
       WHERE {geometry} && box.geometry
         AND {geometry} && (SELECT geometry FROM footprint)
         AND {geometry} && (SELECT geometry FROM aoi)
         AND {chosen}
       LIMIT 1)
ORDER BY box.geometry

-- :footprint_bounds
-- The box around a scene's footprint in another CRS.
SELECT ST_XMin(box), ST_YMin(box), ST_XMax(box), ST_YMax(box)
FROM (SELECT {footprint} AS box
      FROM (SELECT {valid} AS footprint FROM {catalogue} d WHERE d.id = %(obsid)s OFFSET 0) scene) transformed

-- :chosen
-- Whether parcel `p` is one of those that are to be done again. Written so that their numbers are hashed, however many they
-- are: as a join, which IS TRUE prevents, and if their number were known, which the inner SELECT prevents, each parcel could be
-- compared with all of them.
({pid} IN (SELECT unnest((SELECT %(pids)s::bigint[])))) IS TRUE

-- :around_the_scene
-- In the place of the AOI: all that the scene covers.
SELECT {outline} AS geometry FROM {catalogue} d WHERE d.id = %(obsid)s

-- :leaving
-- Of the parcels asked for, those that are there and are not in the selection, and those that are gone.
SELECT wanted.pid
FROM unnest(%(pids)s::bigint[]) wanted (pid)
WHERE EXISTS (SELECT FROM {parcels} p WHERE {pid} = wanted.pid)
  AND wanted.pid NOT IN (SELECT pid FROM selected WHERE pid IS NOT NULL)
UNION ALL
SELECT gone.pid
FROM unnest(%(gone)s::bigint[]) gone (pid)
WHERE NOT EXISTS (SELECT FROM {parcels} p WHERE {pid} = gone.pid)

-- :any
-- Whether there is anything to select, found out before a download.
SELECT EXISTS (SELECT FROM selected)

-- :careful_transform
-- As ST_Transform, but NULL for a geometry that cannot be transformed. Slower, so only used after the plain one failed.
CREATE OR REPLACE FUNCTION pg_temp.careful_transform(g geometry, srid integer) RETURNS geometry
LANGUAGE plpgsql AS $$
BEGIN
    RETURN ST_Transform(g, srid);
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$

-- :careful_intersects
-- As ST_Intersects, but with an invalid geometry made valid first, and NULL where even that fails.
CREATE OR REPLACE FUNCTION pg_temp.careful_intersects(a geometry, b geometry) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    RETURN ST_Intersects(a, b);
EXCEPTION WHEN OTHERS THEN
    BEGIN
        RETURN ST_Intersects(ST_MakeValid(a), b);
    EXCEPTION WHEN OTHERS THEN
        RETURN NULL;
    END;
END $$

-- :any_id
-- The id of some parcel.
SELECT {pid} FROM {parcels} p WHERE {pid} IS NOT NULL LIMIT 1

-- :gone
-- How many of these parcels are no longer there.
SELECT count(*) FROM unnest(%(pids)s::bigint[]) selected (pid)
WHERE NOT EXISTS (SELECT FROM {parcels} p WHERE {pid} = selected.pid)

-- :without_geometry
-- Parcels that no scene can meet, because they have no geometry or an empty one.
SELECT count(*) FILTER (WHERE {geometry} IS NULL), count(*) FILTER (WHERE ST_IsEmpty({geometry})) FROM {parcels} p

-- :srid
-- The SRID that the parcels have now.
SELECT ST_SRID({geometry}) FROM {parcels} p WHERE {geometry} IS NOT NULL LIMIT 1

