-- :columns
-- Columns of a table in their order: name, type (that beneath a domain), whether a row must bring a value, longest text,
-- SRID, whether its values are computed from others.
SELECT a.attname,
       beneath.typname,
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '',
       CASE WHEN beneath.typname IN ('bpchar', 'varchar') AND modifier > 4 THEN modifier - 4 END,
       CASE WHEN beneath.typname IN ('geometry', 'geography') THEN postgis_typmod_srid(modifier) END,
       a.attgenerated <> ''
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_type beneath ON beneath.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
CROSS JOIN LATERAL (SELECT CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END) m (modifier)
WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- :find
-- A table's schema and name, its kind, and the comment on it; no row if there is none. Without a schema, it is looked for
-- in those that the session trusts.
SELECT n.nspname, c.relname, c.relkind, obj_description(c.oid, 'pg_class')
FROM unnest(CASE WHEN %(schema)s::text IS NULL THEN current_setting('parcel_extraction.schemas')::text[]
                 ELSE ARRAY[%(schema)s::text] END)
     WITH ORDINALITY trusted (name, place)
JOIN pg_namespace n ON n.nspname = trusted.name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = %(name)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY trusted.place
LIMIT 1

-- :usual_srid
-- The SRID that most geometries carry, as far as they are looked at; for a column whose type does not fix it.
SELECT srid
FROM (SELECT ST_SRID({geometry}) AS srid FROM {table} WHERE {geometry} IS NOT NULL AND {of_use} LIMIT %(rows)s) looked_at
GROUP BY srid ORDER BY count(*) DESC, srid DESC LIMIT 1

-- :definition
-- Whether the coordinates of this SRID are longitude and latitude; no row if the database has no definition of it.
SELECT starts_with(srtext, 'GEOG') OR position('+proj=longlat' IN proj4text) > 0
FROM spatial_ref_sys WHERE srid = %(srid)s

-- :count_aois
-- How many rows of the AOI table carry the name, and how many of those have a geometry.
SELECT count(*), count(*) FILTER (WHERE NOT ST_IsEmpty({geometry})) FROM {aois} WHERE {field}::text = %(name)s

-- :lock_creation
-- Workers that start together create missing tables one after the other: IF NOT EXISTS alone can collide.
SELECT pg_advisory_xact_lock(1128418561, 0)

-- :create_results
-- The signatures table, with a column for every statistic. No keys or indexes: they slow COPY down.
CREATE TABLE IF NOT EXISTS {table} (pid {pid_type}, obsid integer, band {band_type}, {statistics})

-- :create_hists
-- Pixel counts per scene class (SCL): one row per parcel and scene.
CREATE TABLE IF NOT EXISTS {table} (pid {pid_type}, obsid integer, hist json)

-- :create_gaps
-- Why parcels have no row in the signatures table: one row per parcel, scene and reason, with the bands concerned.
CREATE TABLE IF NOT EXISTS {table} (pid {pid_type}, obsid integer, reason text, bands text)

-- :index_obsid
-- Rows of a scene are found through it when they are replaced. It costs nothing: a scene's rows lie together.
CREATE INDEX ON {table} USING brin (obsid)

-- :identify_rows
-- Without a key, rows of a table that is published for replication could not be deleted.
ALTER TABLE {table} REPLICA IDENTITY FULL

-- :comment
-- Marks a table as one that only this program writes into.
COMMENT ON TABLE {table} IS %(comment)s

-- :current_schema
-- The schema in which a table is made whose name does not say.
SELECT (current_setting('parcel_extraction.schemas')::text[])[1]

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

-- :index_pauses
-- Scenes that wait for their next attempt are looked up before every claim.
CREATE INDEX IF NOT EXISTS extraction_log_pauses ON {log} (retry_after) WHERE retry_after IS NOT NULL

-- :index_log
-- Attempts are looked up by scene.
CREATE INDEX IF NOT EXISTS extraction_log_obsid ON {log} (obsid)

-- :index_open_attempts
-- Attempts that have not ended are looked up before every claim.
CREATE INDEX IF NOT EXISTS extraction_log_open ON {log} (obsid) WHERE finished_at IS NULL

-- :index_results
-- What the numbers of a results table mean is looked up before the first claim.
CREATE INDEX IF NOT EXISTS extraction_log_results ON {log} (results, card, obsid, run_id) WHERE outcome = 'extracted'

-- :index_redone
-- The same of attempts that have done scenes again.
CREATE INDEX IF NOT EXISTS extraction_log_redone ON {log} (results, card, obsid, run_id) WHERE outcome = 'redone'

-- :index_tables
-- So is what the numbers in other tables of results mean.
CREATE INDEX IF NOT EXISTS extraction_log_tables ON {log} USING gin ((settings -> 'tables')) WHERE settings ? 'tables'

-- :indexes
-- The indexes of a table: kind, columns, whether unique, for which part of the rows only, name, whether it can be used.
SELECT m.amname,
       array(SELECT a.attname::text
             FROM unnest(i.indkey::smallint[]) WITH ORDINALITY k (number, place)
             LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
             WHERE k.place <= i.indnkeyatts ORDER BY k.place),
       i.indisunique, pg_get_expr(i.indpred, i.indrelid), n.nspname, c.relname, i.indisvalid
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_am m ON m.oid = c.relam
WHERE i.indrelid = %(table)s::regclass AND i.indislive
