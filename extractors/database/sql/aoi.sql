-- :in_srid
-- A geometry in another CRS. A straight edge in one CRS is a curve in another: edges get intermediate vertices first.
ST_Transform(ST_Segmentize({geometry}, greatest(ST_XMax({geometry}) - ST_XMin({geometry}),
                                               ST_YMax({geometry}) - ST_YMin({geometry}), 1e-9) / 1000),
             {srid}::integer)

-- :in_srid_by_parts
-- The same for what may lie on both sides of the meridian of 180 degrees: how dense the vertices must be depends on the
-- part.
CASE WHEN ST_XMax({geometry}) - ST_XMin({geometry}) > 180 AND ST_NumGeometries({geometry}) > 1
     THEN (SELECT ST_Union({part}) FROM ST_Dump({geometry}) part)
     ELSE {whole} END

-- :valid
-- A geometry that GEOS can work with. Most are so as they are, and finding that out is quick.
CASE WHEN ST_IsValid({geometry}) THEN {geometry} ELSE ST_MakeValid({geometry}) END

-- :shifted
-- A geometry with longitudes from 0 to 360.
ST_ShiftLongitude({geometry})

-- :wrapped
-- A geometry in longitude and latitude, made valid and cut at 180 degrees. What lies across that meridian has an outline
-- that is wider than half the Earth (from +179 to -179), or one that goes on beyond it (from -181 to -179).
CASE WHEN ST_XMax({geometry}) - ST_XMin({geometry}) > 180 AND ST_XMin({geometry}) > -180 AND ST_XMax({geometry}) < 180
          AND ST_NumGeometries({geometry}) = 1 AND {crossing}
     THEN ST_WrapX({shifted}, 180, -360)
     WHEN ST_XMin({geometry}) < -180 OR ST_XMax({geometry}) > 180
     THEN ST_WrapX(ST_WrapX({valid}, 180, -360), -180, 360)
     ELSE {valid} END

-- :areas
-- The AOI in the catalogue's CRS: one geometry for each of its rows. OFFSET 0 keeps the planner from transforming anew
-- wherever the geometry is mentioned.
SELECT {valid} AS geometry
FROM (SELECT {transformed} AS transformed FROM {aois} WHERE {aoi_field}::text = %(aoi)s OFFSET 0) area

-- :met
-- Whether the footprint of scene `d` meets the AOI, which is the CTE `aoi`. One that is to be cut at 180 degrees has no
-- box to go by. OFFSET 0 has this found out scene by scene: as a join, it would have the AOI, which may have thousands of
-- corners, sorted with every scene.
EXISTS (SELECT FROM aoi
        WHERE ({raw} && aoi.geometry OR ST_XMin({raw}) < -180 OR ST_XMax({raw}) > 180
               OR ST_XMax({raw}) - ST_XMin({raw}) > 180)
          AND ST_Intersects({footprint}, aoi.geometry)
        OFFSET 0)
