-- :columns
-- Columns of a table in their order: name, type, whether a row must bring a value, longest text, SRID.
SELECT a.attname,
       t.typname,
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '',
       CASE WHEN t.typname IN ('bpchar', 'varchar') AND a.atttypmod > 4 THEN a.atttypmod - 4 END,
       CASE WHEN t.typname = 'geometry' THEN postgis_typmod_srid(a.atttypmod) END
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- :find
-- The table's schema and name as the database resolves them; no row if there is none.
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%(table)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')

-- :srid_of_data
-- The SRID that the geometries themselves carry, for a column whose type does not fix it.
SELECT ST_SRID({geometry}) FROM {table} WHERE {geometry} IS NOT NULL LIMIT 1

-- :count_aois
-- How many rows of the AOI table carry the name, and how many of those have a geometry.
SELECT count(*), count(*) FILTER (WHERE NOT ST_IsEmpty(wkb_geometry)) FROM {aois} WHERE {field}::text = %(name)s

-- :lock_creation
-- Workers that start together create missing tables one after the other: IF NOT EXISTS alone can collide.
SELECT pg_advisory_xact_lock(1128418561, 0)

-- :create_results
-- The signatures table, with a column for every statistic. No keys or indexes: they slow COPY down.
CREATE TABLE IF NOT EXISTS {table} (pid {pid_type}, obsid integer, band varchar(3), {statistics})

-- :create_hists
-- Pixel counts per scene class (SCL): one row per parcel and scene.
CREATE TABLE IF NOT EXISTS {table} (pid {pid_type}, obsid integer, hist json)

-- :comment
-- Marks a table as one that only this program writes into.
COMMENT ON TABLE {table} IS %(comment)s

-- :get_comment
-- The comment on a table.
SELECT obj_description(%(table)s::regclass, 'pg_class')

-- :create_log
-- One row per attempt at a scene. obsid is dias_catalogue.id, without a foreign key so that the log outlives its scene.
CREATE TABLE IF NOT EXISTS {log} (
    run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    obsid integer NOT NULL,
    reference text NOT NULL,
    card text NOT NULL,
    aoi text NOT NULL,
    results text NOT NULL,
    worker text NOT NULL,
    attempt integer NOT NULL DEFAULT 1,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    outcome text,
    status text,
    retry_after timestamptz,
    detail text,
    parcels_selected integer,
    rows_written jsonb,
    parcels_without_row jsonb,
    parcels_without_geometry jsonb,
    chunks_recomputed integer,
    seconds jsonb,
    versions jsonb,
    settings jsonb
)

-- :add_settings
-- The column that logs of the first version lack.
ALTER TABLE {log} ADD COLUMN IF NOT EXISTS settings jsonb

-- :owned
-- Whether a table is ours to change.
SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = %(table)s::regclass

-- :index_log
-- Attempts are looked up by scene.
CREATE INDEX IF NOT EXISTS extraction_log_obsid ON {log} (obsid)

-- :index_open_attempts
-- Attempts that have not ended are looked up before every claim.
CREATE INDEX IF NOT EXISTS extraction_log_open ON {log} (obsid) WHERE finished_at IS NULL
