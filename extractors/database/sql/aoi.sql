-- :in_srid
-- A geometry in another CRS. A straight edge in one CRS is a curve in another: edges get intermediate vertices first.
ST_Transform(ST_Segmentize({geometry}, greatest(ST_XMax({geometry}) - ST_XMin({geometry}),
                                               ST_YMax({geometry}) - ST_YMin({geometry}), 1e-9) / 1000),
             {srid}::integer)

-- :valid
-- A geometry that GEOS can work with. Most are so as they are, and finding that out is quick.
CASE WHEN ST_IsValid({geometry}) THEN {geometry} ELSE ST_MakeValid({geometry}) END

-- :areas
-- The AOI in the catalogue's CRS: one geometry for each of its rows. OFFSET 0 keeps the planner from transforming anew
-- wherever the geometry is mentioned.
SELECT {valid} AS geometry
FROM (SELECT {transformed} AS transformed FROM {aois} WHERE {aoi_field}::text = %(aoi)s OFFSET 0) area

-- :met
-- Whether the footprint of scene `d` meets the AOI, which is the CTE `aoi`.
EXISTS (SELECT FROM aoi WHERE d.footprint && aoi.geometry AND ST_Intersects({valid}, aoi.geometry))
