-- :nature
-- What matters of a table: persistence, about how many rows it has (less than one: unknown), whether policies hide rows
-- from us, what can be done to it if it is a view (4 UPDATE, 8 INSERT, 16 DELETE; COPY into a view takes a trigger), who
-- we are, whether we own it; rules that make something else of an UPDATE (2) or DELETE (4) of ours; publications for which
-- rows that are changed or deleted would have to be told apart and cannot be; and which rights to which columns (no name: to
-- the whole table) we do not have.
SELECT c.relpersistence, c.reltuples::bigint, row_security_active(c.oid), pg_relation_is_updatable(c.oid, true),
       EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgtype & 69 = 69),
       quote_ident(current_user), pg_has_role(c.relowner, 'USAGE'),
       array(SELECT quote_ident(w.rulename) FROM pg_rewrite w
             WHERE w.ev_class = c.oid AND c.relkind IN ('r', 'p') AND w.is_instead
               AND (w.ev_type = '2' AND 'UPDATE' = ANY (%(privileges)s)
                    OR w.ev_type = '4' AND 'DELETE' = ANY (%(privileges)s))),
       array(SELECT quote_ident(p.pubname)
             FROM pg_publication p JOIN pg_publication_tables t ON t.pubname = p.pubname
             WHERE t.schemaname = c.relnamespace::regnamespace::text AND t.tablename = c.relname
               AND (p.pubupdate AND 'UPDATE' = ANY (%(privileges)s) OR p.pubdelete AND 'DELETE' = ANY (%(privileges)s))
               AND NOT (c.relreplident = 'f'
                        OR EXISTS (SELECT FROM pg_index i
                                   WHERE i.indrelid = c.oid
                                     AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END))),
       (SELECT coalesce(json_agg(json_build_array(lacking.privilege, lacking.names) ORDER BY lacking.privilege), '[]')
        FROM (SELECT wanted.privilege, string_agg(quote_ident(wanted.name), ', ' ORDER BY wanted.name) AS names
              FROM unnest(%(privileges)s::text[], %(names)s::text[]) wanted (privilege, name)
              WHERE NOT CASE WHEN wanted.name IS NULL THEN has_table_privilege(c.oid, wanted.privilege)
                             ELSE has_column_privilege(c.oid, wanted.name, wanted.privilege) END
              GROUP BY wanted.privilege) lacking)
FROM pg_class c
WHERE c.oid = %(table)s::regclass

-- :may_create
-- Whether there is a schema of this name, and we may create tables in it.
SELECT n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'CREATE'), false), quote_ident(current_user)
FROM (SELECT 1) one LEFT JOIN pg_namespace n ON n.nspname = %(schema)s

-- :writable
-- Whether this is a standby; whether transactions may write.
SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'off'

-- :labels_of_type
-- The words that a column takes whose type is an enumeration; no rows for any other.
SELECT e.enumlabel
FROM pg_attribute a JOIN pg_enum e ON e.enumtypid = a.atttypid
WHERE a.attrelid = %(table)s::regclass AND a.attname = %(column)s

-- :is_watched
-- Whether constraints, a domain or triggers on these events may refuse what is written into any of these columns.
SELECT EXISTS (SELECT FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
               WHERE k.conrelid = %(table)s::regclass AND k.contype IN ('c', 'f') AND a.attname = ANY (%(columns)s))
    OR EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
               WHERE a.attrelid = %(table)s::regclass AND a.attname = ANY (%(columns)s) AND t.typtype = 'd')
    OR EXISTS (SELECT FROM pg_trigger t
               WHERE t.tgrelid = %(table)s::regclass AND NOT t.tgisinternal AND t.tgtype & %(events)s > 0)

-- :any_scene
-- Some scene that nobody is at, its row locked.
SELECT id FROM {catalogue} LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED

-- :try_status
-- Gives a scene a status; to be rolled back.
UPDATE {catalogue} SET status = %(status)s WHERE id = %(obsid)s

-- :next_scene
-- The scene that is likely to be the next one.
SELECT d.id FROM {catalogue} d
WHERE d.status = 'ingested' AND d.card = %(card)s AND d.obstime >= %(start)s AND d.obstime < %(end)s
  AND d.id BETWEEN -2147483648 AND 2147483647
ORDER BY d.obstime, d.id
LIMIT 1

-- :large_ids
-- The first numbers of the catalogue that an integer does not hold.
SELECT id FROM {catalogue} WHERE id > 2147483647 ORDER BY id LIMIT 6

-- :try_area
-- Whether a point of the area can be brought to the catalogue's CRS and to that of the parcels.
SELECT ST_IsEmpty(ST_Transform(ST_Transform(ST_Centroid(ST_Envelope({outline})), %(footprint_srid)s::integer),
                               %(parcel_srid)s::integer))
FROM {aois}
WHERE {aoi_field}::text = %(aoi)s AND NOT ST_IsEmpty({outline})
LIMIT 1

-- :try_parcel
-- Whether the middle of a parcel can be brought to the catalogue's CRS.
SELECT ST_IsEmpty(ST_Transform(ST_Centroid(ST_Envelope({geometry})), %(footprint_srid)s::integer))
FROM {parcels} p
WHERE NOT ST_IsEmpty({geometry})
LIMIT 1

-- :area_to_fix
-- Vertices of the first row of the area that is invalid, and has more than those up to which that is put right.
SELECT ST_NPoints({outline}) FROM {aois}
WHERE {aoi_field}::text = %(aoi)s AND NOT ST_IsEmpty({outline}) AND ST_NPoints({outline}) > %(most)s::integer
  AND NOT ST_IsValid({outline})
LIMIT 1

-- :position
-- The middle of a parcel, in the parcels' CRS and in longitude and latitude.
SELECT ST_X(middle), ST_Y(middle), ST_X(ST_Transform(middle, 4326)), ST_Y(ST_Transform(middle, 4326))
FROM (SELECT ST_Centroid(ST_Envelope({geometry})) AS middle
      FROM {parcels} p WHERE NOT ST_IsEmpty({geometry}) LIMIT 1) parcel

-- :area_box
-- West, south, east and north of the area in degrees; and whether any parcel lies there or within a degree of it.
WITH area AS MATERIALIZED (
    SELECT ST_SetSRID(ST_Extent(ST_Transform(ST_Segmentize(box, greatest(ST_XMax(box) - ST_XMin(box), 1e-9) / 8), 4326)
                               )::geometry, 4326) AS box
    FROM (SELECT ST_Envelope({outline}) AS box FROM {aois} WHERE {aoi_field}::text = %(aoi)s OFFSET 0) part
),
around AS MATERIALIZED (
    SELECT ST_Transform(ST_Segmentize(ST_Intersection(ST_Expand(box, 1), ST_MakeEnvelope(-180, -90, 180, 90, 4326)), 0.5),
                        %(parcel_srid)s::integer) AS box
    FROM area
)
SELECT ST_XMin(area.box), ST_YMin(area.box), ST_XMax(area.box), ST_YMax(area.box),
       EXISTS (SELECT FROM {parcels} p WHERE {geometry} && (SELECT box FROM around))
FROM area

-- :estimated_box
-- West, south, east and north of all parcels, in degrees, from their index or statistics; NULL without either.
SELECT ST_XMin(box), ST_YMin(box), ST_XMax(box), ST_YMax(box)
FROM (SELECT ST_Transform(ST_SetSRID(ST_EstimatedExtent(%(schema)s, %(name)s, %(column)s)::geometry,
                                     %(parcel_srid)s::integer), 4326) AS box) parcels

-- :true_box
-- The same from the parcels themselves.
SELECT ST_XMin(box), ST_YMin(box), ST_XMax(box), ST_YMax(box)
FROM (SELECT ST_Transform(ST_SetSRID(ST_Extent({geometry})::geometry, %(parcel_srid)s::integer), 4326) AS box
      FROM {parcels} p) parcels

-- :srids
-- How many geometries have which SRID; none (0) comes last.
SELECT ST_SRID({geometry}), count(*) FROM {table} p WHERE {geometry} IS NOT NULL
GROUP BY 1 ORDER BY ST_SRID({geometry}) = 0, 2 DESC, 1

-- :meanings
-- What the log says that numbers of a CARD in a table of results depend on: the values of the settings asked for, the
-- scenes that were extracted with them (each as it was the last time), and those that are under way. The table may be
-- the attempt's results table proper, or the other one (`other`: as what, and its name).
WITH written AS NOT MATERIALIZED (
    SELECT obsid, run_id, finished_at, outcome, 'all' AS pixels, results, {settings} AS settings
    FROM {log}
    WHERE results = %(results)s AND card = %(card)s
    UNION ALL
    SELECT obsid, run_id, finished_at, outcome, 'clear', results, {settings}
    FROM {log}
    WHERE {settings} ? 'tables' AND {settings} -> 'tables' @> %(other)s::jsonb AND card = %(card)s
),
last AS (
    SELECT DISTINCT ON (obsid) obsid, pixels, results, settings, false AS under_way
    -- Not both words at once: there is an index on those extracted.
    FROM (SELECT * FROM written WHERE outcome = 'extracted'
          UNION ALL SELECT * FROM written WHERE outcome = 'redone') done
    ORDER BY obsid, run_id DESC
),
said AS (
    SELECT * FROM last
    UNION ALL
    SELECT obsid, pixels, results, settings, true FROM written
    WHERE finished_at IS NULL
      -- By a worker that lives: its session has locked the scene.
      AND EXISTS (SELECT FROM pg_locks l
                  WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 1128418561 AND l.objid = obsid::oid
                    AND l.objsubid = 2 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
)
SELECT (SELECT json_agg(CASE key WHEN 'pixels' THEN to_jsonb(pixels)
                                 WHEN 'results_table' THEN to_jsonb(results)
                                 ELSE settings -> key END ORDER BY place)
        FROM unnest(%(keys)s::text[]) WITH ORDINALITY k (key, place))::jsonb AS meaning,
       array_agg(obsid ORDER BY obsid) FILTER (WHERE NOT under_way),
       array_agg(obsid ORDER BY obsid) FILTER (WHERE under_way)
FROM said
GROUP BY meaning
ORDER BY min(obsid)

-- :held
-- One of these scenes of which the results table holds rows.
SELECT scene.obsid
FROM unnest(%(scenes)s::integer[]) scene (obsid)
WHERE EXISTS (SELECT FROM {results} r WHERE r.obsid = scene.obsid)
LIMIT 1

-- :held_unknown
-- A scene of which the results table holds rows, and the log knows nothing.
SELECT d.id
FROM {catalogue} d
WHERE d.card = %(card)s
  AND NOT EXISTS (SELECT FROM {log} l
                  WHERE l.obsid = d.id AND l.outcome IN ('extracted', 'redone')
                    AND (l.results = %(results)s OR {settings} -> 'tables' @> %(other)s::jsonb))
  AND EXISTS (SELECT FROM {results} r WHERE r.obsid = d.id)
LIMIT 1

-- :strangers
-- What may run with our rights and belongs to others than ourselves, superusers and the owner of the database: tables
-- (with their triggers, rules and views), functions of their triggers; and who may make functions beside PostGIS's.
WITH trusted AS (
    SELECT oid FROM pg_roles
    WHERE rolsuper OR rolname IN (current_user, 'pg_database_owner')
       OR oid = (SELECT datdba FROM pg_database WHERE datname = current_database())
)
SELECT concat('table ', c.oid::regclass), concat('belongs to ', pg_get_userbyid(c.relowner))
FROM pg_class c
WHERE c.oid = ANY (%(tables)s::regclass[]) AND c.relowner NOT IN (SELECT oid FROM trusted)
UNION ALL
SELECT concat('trigger ', quote_ident(t.tgname), ' of ', t.tgrelid::regclass),
       concat('calls a function of ', pg_get_userbyid(p.proowner))
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = ANY (%(tables)s::regclass[]) AND NOT t.tgisinternal AND p.proowner NOT IN (SELECT oid FROM trusted)
UNION ALL
SELECT concat('schema ', n.oid::regnamespace),
       concat('lets ', CASE a.grantee WHEN 0 THEN 'everybody' ELSE pg_get_userbyid(a.grantee) END,
              ' make functions beside those of PostGIS')
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace, aclexplode(n.nspacl) a
WHERE e.extname = 'postgis' AND a.privilege_type = 'CREATE' AND a.grantee NOT IN (SELECT oid FROM trusted)
ORDER BY 1
