-- The rights of `python -m operations ingest`: what it needs to fill the catalogue and no more. For psql, run by the owner
-- of the tables once catalogue and areas are there, best after `operations setup`. The table of places is made if it is absent; roles that may set
-- statuses, the workers', may read it then.
--
--     psql -v ON_ERROR_STOP=1 -1 -d sentinel -v ingest=ingest -v aois=aois -f ingest_role.sql
--
--     ingest              the role, which must exist: CREATE ROLE ingest LOGIN NOINHERIT PASSWORD '...'
--     aois                table as in db_config.json
--     catalogue (dias_catalogue), aoi_field (name), places (scene_source, in the catalogue's schema)
--                         where they are called otherwise
--
-- Tables in schemas other than public: GRANT USAGE ON SCHEMA ... TO the role as well.
\if :{?catalogue} \else \set catalogue dias_catalogue
\endif
\if :{?places} \else \set places scene_source
\endif
\if :{?aoi_field} \else \set aoi_field name
\endif
SELECT to_regclass(:'places') IS NULL AS no_places, pg_get_serial_sequence(:'catalogue', 'id') AS numbers \gset
SELECT n.nspname AS postgis FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'postgis' \gset

\if :no_places
CREATE TABLE :places (obsid integer PRIMARY KEY, bucket text, prefix text);
SELECT DISTINCT format('GRANT SELECT (obsid, bucket, prefix) ON %s TO %s', :'places'::regclass, a.grantee::regrole)
FROM pg_class t
JOIN pg_attribute c ON c.attrelid = t.oid AND c.attname = 'status'
CROSS JOIN LATERAL (SELECT * FROM aclexplode(t.relacl) UNION ALL SELECT * FROM aclexplode(c.attacl)) a
WHERE t.oid = :'catalogue'::regclass AND a.privilege_type = 'UPDATE' AND a.grantee NOT IN (0, t.relowner) \gexec
\endif

GRANT CONNECT ON DATABASE :"DBNAME" TO :"ingest";
GRANT USAGE ON SCHEMA public TO :"ingest";
GRANT USAGE ON SCHEMA :"postgis" TO :"ingest";
GRANT SELECT ON :"postgis".spatial_ref_sys TO :"ingest";
GRANT SELECT (:aoi_field, wkb_geometry) ON :aois TO :"ingest";
GRANT SELECT (id, obstime, reference, card, status, footprint),
    INSERT (obstime, reference, sensor, card, status, footprint), UPDATE (status) ON :catalogue TO :"ingest";
GRANT SELECT (obsid, bucket, prefix), INSERT (obsid, bucket, prefix), UPDATE (bucket, prefix) ON :places TO :"ingest";
-- Whether a newer product has taken the place of one, which is asked where the source has a deleted one again.
SELECT format('GRANT SELECT (obsid, outcome) ON %s TO %I', l.oid::regclass, :'ingest')
FROM pg_class t JOIN pg_class l ON l.relnamespace = t.relnamespace AND l.relname = 'extraction_log'
WHERE t.oid = :'catalogue'::regclass \gexec
\if :{?numbers}
GRANT USAGE ON SEQUENCE :numbers TO :"ingest";
\endif
