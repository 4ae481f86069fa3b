-- :any
-- How many rows of the AOI table carry this name.
SELECT count(*) FROM {aois} WHERE {field}::text = %(name)s

-- :form
-- How the AOI table takes an area: the SRID of its column, or that of its rows (NULL: none yet); and whether it takes
-- polygons of one part only.
SELECT coalesce(nullif(postgis_typmod_srid(atttypmod), 0),
                (SELECT ST_SRID(wkb_geometry) FROM {aois} WHERE wkb_geometry IS NOT NULL ORDER BY {field} LIMIT 1)),
       postgis_typmod_type(atttypmod) = 'Polygon'
FROM pg_attribute
WHERE attrelid = %(table)s::regclass AND attname = 'wkb_geometry'

-- :extent
-- The box of all parcels: its widest side, in the units of their CRS; and their SRID. NULL if there are none.
SELECT greatest(ST_XMax(box) - ST_XMin(box), ST_YMax(box) - ST_YMin(box)), srid
FROM (SELECT ST_Extent({geometry}) AS box, min(ST_SRID({geometry})) AS srid FROM {parcels} p WHERE NOT ST_IsEmpty({geometry})) parcels

-- :hull
-- A rough outline of the parcels: the cells of a grid in which there are any (`cell`: their width), and those around, joined,
-- without holes. Each parcel lies within; the outline has few vertices, however many parcels there are.
WITH boxes AS (
    SELECT floor(ST_XMin(box) / %(cell)s)::bigint AS west, floor(ST_XMax(box) / %(cell)s)::bigint AS east,
           floor(ST_YMin(box) / %(cell)s)::bigint AS south, floor(ST_YMax(box) / %(cell)s)::bigint AS north
    FROM (SELECT {geometry}::box2d AS box FROM {parcels} p WHERE NOT ST_IsEmpty({geometry})) parcel
),
blocks AS (SELECT DISTINCT * FROM boxes),
cells AS (
    SELECT DISTINCT x, y FROM blocks, generate_series(west, east) x, generate_series(south, north) y
),
joined AS (
    SELECT ST_Union(ST_MakeEnvelope((x - .5) * %(cell)s, (y - .5) * %(cell)s, (x + 1.5) * %(cell)s, (y + 1.5) * %(cell)s,
                                    %(srid)s::integer)) AS outline
    FROM cells
)
SELECT ST_Union(ST_MakePolygon(ST_ExteriorRing(part.geom)))::text
FROM joined, ST_Dump(ST_SimplifyPreserveTopology(outline, 0)) part

-- :insert
-- An area, given in its own CRS; of several rows, if the table takes nothing else (`by_parts`). Long edges get vertices in
-- between before they are transformed (`edge`: their length).
INSERT INTO {aois} ({field}, wkb_geometry)
SELECT %(name)s, part.geom
FROM (SELECT ST_Multi(ST_Transform(ST_Segmentize(%(outline)s::geometry, %(edge)s), %(srid)s::integer)) AS outline) area,
     LATERAL (SELECT (ST_Dump(outline)).geom WHERE %(by_parts)s UNION ALL SELECT outline WHERE NOT %(by_parts)s) part

-- :describe
-- Vertices and parts of an area, and its box in degrees.
SELECT ST_NPoints(outline), ST_NumGeometries(outline), ST_XMin(box), ST_YMin(box), ST_XMax(box), ST_YMax(box)
FROM (SELECT outline, ST_Transform(ST_Envelope(outline), 4326) AS box
      FROM (SELECT ST_Collect(wkb_geometry) AS outline FROM {aois} WHERE {field}::text = %(name)s) named) described
