-- :configure
-- Sets the session up; returns the names of the settings that this server knows.
SELECT wanted.name, set_config(known.name, wanted.value, false)
FROM unnest(%(names)s::text[], %(values)s::text[]) AS wanted (name, value)
JOIN pg_settings known ON lower(known.name) = lower(wanted.name)

-- :trusted_schemas
-- Keeps for the session in which schemas tables without one are looked for: those of its search_path, but not one that is
-- there by chance, because somebody else has given it our name. Returns that one and its owner.
SELECT planted.name, planted.owner,
       set_config('parcel_extraction.schemas', array_remove(current_schemas(false), planted.name)::text, false)
FROM (SELECT 1) one
LEFT JOIN (SELECT n.nspname AS name, quote_ident(r.rolname) AS owner
           FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
           WHERE n.nspname = current_user AND n.nspname = ANY (current_schemas(false)) AND NOT r.rolsuper
             AND r.rolname <> current_user
             AND r.oid <> (SELECT datdba FROM pg_database WHERE datname = current_database())) planted ON true

-- :pin_search_path
-- Has the session find PostgreSQL's own functions first, then PostGIS's. The schemas that triggers may rely on follow.
SELECT set_config('search_path',
                  (SELECT string_agg(quote_ident(name), ', ' ORDER BY first, place)
                   FROM (SELECT n.nspname AS name, 1 AS first, 0::bigint AS place
                         FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                         WHERE e.extname = 'postgis'
                         UNION ALL
                         SELECT name, 2, place
                         FROM unnest(current_setting('parcel_extraction.schemas')::text[])
                              WITH ORDINALITY s (name, place)
                         UNION ALL
                         SELECT 'pg_temp', 3, 0) path), false)

-- :user
-- Who we are, and whether that is a superuser.
SELECT quote_ident(rolname), rolsuper FROM pg_roles WHERE rolname = current_user

-- :describe
-- Versions of server and PostGIS and where that is, whether it can be used, the database's name and encoding, whether we
-- may make temporary functions there, and who we are.
SELECT current_setting('server_version'), e.extversion, quote_ident(n.nspname),
       to_regprocedure('postgis_typmod_srid(integer)') IS NOT NULL,
       current_database(), current_setting('server_encoding'),
       has_database_privilege(current_database(), 'TEMPORARY'), quote_ident(current_user)
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

-- :limits
-- How long a statement may take, and wait for a lock.
SELECT current_setting('statement_timeout'), current_setting('lock_timeout')

-- :set_limits
-- Sets both for the session.
SELECT set_config('statement_timeout', (%(limits)s::text[])[1], false),
       set_config('lock_timeout', (%(limits)s::text[])[2], false)
