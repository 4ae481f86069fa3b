-- :in_srid
-- A geometry in another CRS. A straight edge in one CRS is a curve in another: edges get intermediate vertices first, in
-- all not more than some 100,000.
ST_Transform(ST_Segmentize({geometry}, greatest(ST_XMax({geometry}) - ST_XMin({geometry}),
                                               ST_YMax({geometry}) - ST_YMin({geometry}),
                                               ST_Perimeter({geometry}) / 100, 1e-9) / 1000),
             {srid}::integer)

-- :in_srid_by_parts
-- The same for what may lie on both sides of the meridian of 180 degrees: how dense the vertices must be depends on the
-- part.
CASE WHEN ST_XMax({geometry}) - ST_XMin({geometry}) > 180 AND ST_NumGeometries({geometry}) > 1
     THEN (SELECT ST_Union({part}) FROM ST_Dump({geometry}) part)
     ELSE {whole} END

-- :valid
-- A geometry that GEOS can work with. Most are so as they are, and finding that out is quick. What would take long to fix
-- becomes NULL: for 800 vertices that all cross one another, ST_MakeValid takes minutes in which nothing stops it.
CASE WHEN ST_IsValid({geometry}) THEN {geometry}
     WHEN ST_NPoints({geometry}) <= {most}::integer THEN {fixed} END

-- :by_structure
-- An invalid geometry made valid ring by ring: quick. Only with PostGIS from 3.2 and GEOS from 3.10 on.
ST_MakeValid({geometry}, 'method=structure keepcollapsed=false')

-- :by_lines
-- The same with every version, but slow.
ST_MakeValid({geometry})

-- :hull
-- What takes the place of an invalid footprint where that is too slow: footprints are rough anyway.
ST_ConvexHull({geometry})

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
-- The AOI in the catalogue's CRS: one geometry for each of its rows. What has this CRS already is left as it is: an
-- outline of 20,000 corners is looked at in every claim. OFFSET 0 keeps the planner from fixing and transforming anew
-- wherever the geometry is mentioned.
SELECT CASE WHEN ST_SRID(outline) = %(footprint_srid)s::integer THEN {as_it_is} ELSE {valid} END AS geometry
FROM (SELECT outline, CASE WHEN ST_SRID(outline) <> %(footprint_srid)s::integer THEN {transformed} END AS transformed
      FROM (SELECT {sound} AS outline FROM {aois} WHERE {aoi_field}::text = %(aoi)s OFFSET 0) fixed OFFSET 0) area

-- :problem
-- Why a footprint cannot be used, in words; NULL if it can. In an order in which no step can fail or take long, whatever
-- the footprint is.
CASE WHEN ST_IsEmpty({raw}) THEN 'is empty'
     WHEN ST_SRID({raw}) <> %(footprint_srid)s::integer
         THEN concat('has the SRID ', ST_SRID({raw}), ', others in the catalogue have ', %(footprint_srid)s::integer)
     WHEN GeometryType({raw}) ~ '^(POLYHEDRAL|TIN|TRIANGLE)' THEN concat('is a ', GeometryType({raw}))
     WHEN ST_NPoints({raw}) > {most_of_all}::integer
         THEN concat('has ', ST_NPoints({raw}), ' vertices, more than ', {most_of_all}::integer)
     WHEN GeometryType({raw}) = 'GEOMETRYCOLLECTION' AND ST_AsText({raw}) ~ '(POLYHEDRAL|TIN|TRIANGLE)'
         THEN 'is a collection of solids'
     WHEN GeometryType({raw}) ~ '(CURVE|SURFACE|CIRCULAR)' AND NOT coalesce(ST_IsValid({raw}), false)
         THEN 'has curves that cross each other'
     WHEN ST_IsValid({raw}) THEN NULL
     WHEN ST_NPoints({raw}) > {most}::integer
         THEN concat('crosses itself, and has ', ST_NPoints({raw}), ' vertices, more than the ', {most}::integer,
                     ' for which that is put right')
     WHEN ST_AsText({raw}) ~* '(nan|inf)' THEN 'has coordinates that are no numbers'
     WHEN ST_IsEmpty({fixed}) THEN 'has no area'
END

-- :met
-- Whether the footprint of scene `d` meets the AOI, which is the CTE `aoi`; one that cannot be used, as far as its place
-- is known, so that its scene is taken and fails. One that is to be cut at 180 degrees has no box to go by. OFFSET 0 has
-- this found out scene by scene: as a join, it would have the AOI, which may have thousands of corners, sorted with
-- every scene.
EXISTS (SELECT FROM aoi
        WHERE CASE WHEN ST_IsEmpty({raw}) OR ST_SRID({raw}) <> %(footprint_srid)s::integer THEN true
                   WHEN NOT ({raw} && aoi.geometry OR ST_XMin({raw}) < -180 OR ST_XMax({raw}) > 180
                             OR ST_XMax({raw}) - ST_XMin({raw}) > 180) THEN false
                   -- Most are so, and need no more looking at: this halves the time for all scenes of a large catalogue.
                   WHEN GeometryType({raw}) = 'POLYGON' AND ST_NPoints({raw}) <= {most_of_all}::integer
                        AND ST_XMin({raw}) >= -180 AND ST_XMax({raw}) <= 180 AND ST_XMax({raw}) - ST_XMin({raw}) <= 180
                        AND ST_IsValid({raw}) THEN ST_Intersects({raw}, aoi.geometry)
                   WHEN {problem} IS NOT NULL THEN true
                   ELSE ST_Intersects({footprint}, aoi.geometry) END
        OFFSET 0)
