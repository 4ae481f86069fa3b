-- :configure
-- Sets the session up; returns the names of the settings that this server knows.
SELECT wanted.name, set_config(known.name, wanted.value, false)
FROM unnest(%(names)s::text[], %(values)s::text[]) AS wanted (name, value)
JOIN pg_settings known ON lower(known.name) = lower(wanted.name)

-- :use_postgis
-- Has the session find PostGIS where it is, after all schemas that it looks into anyway.
SELECT set_config('search_path',
                  concat_ws(', ', nullif(current_setting('search_path'), ''), quote_ident(n.nspname)), false)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'postgis' AND n.nspname <> ALL (current_schemas(true))

-- :describe
-- Versions of server and PostGIS and where that is, whether it can be used, the database's name and encoding.
SELECT current_setting('server_version'), e.extversion, quote_ident(n.nspname),
       to_regprocedure('postgis_typmod_srid(integer)') IS NOT NULL,
       current_database(), current_setting('server_encoding')
FROM (SELECT 1) one
LEFT JOIN pg_extension e ON e.extname = 'postgis'
LEFT JOIN pg_namespace n ON n.oid = e.extnamespace

-- :fixes_by_structure
-- Whether PostGIS and GEOS know the quick way of making geometries valid.
SELECT to_regprocedure('st_makevalid(geometry, text)') IS NOT NULL
   AND string_to_array(substring(postgis_geos_version() FROM '^[0-9]+[.][0-9]+'), '.')::integer[] >= ARRAY[3, 10]

-- :limit_time
-- Until the transaction ends, a statement may take so many milliseconds.
SELECT set_config('statement_timeout', %(milliseconds)s, true)
