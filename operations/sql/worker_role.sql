-- The rights of workers: what they need and no more. For psql, run by the owner of the tables once catalogue, areas and
-- parcels are there; again for other tables. What workers write into is made if it is absent.
-- `python -m operations setup --role` reads the GRANTs of this file: that does the same where there is no psql.
--
--     psql -v ON_ERROR_STOP=1 -1 -d sentinel -v worker=extraction -v aois=aois -v parcels=parcels_2018 \
--          -v results=roi_2018_s2_signatures -f operations/sql/worker_role.sql
--
--     worker              the role, which must exist: CREATE ROLE extraction LOGIN NOINHERIT PASSWORD '...'
--     aois, parcels, results, clear_results, hists, gaps      tables as in db_config.json (the last three: only if
--         configured)
--     catalogue (dias_catalogue), log (extraction_log, in the catalogue's schema), aoi_field (name),
--     parcel_id (ogc_fid), parcel_geometry (wkb_geometry), places (scene_source, in the catalogue's schema; if there is
--     one), redo_list (likewise)      where they are called otherwise
--
-- Tables in schemas other than public: GRANT USAGE ON SCHEMA ... TO the role as well.
\if :{?catalogue} \else \set catalogue dias_catalogue
\endif
\if :{?log} \else \set log extraction_log
\endif
\if :{?places} \else \set places scene_source
\endif
\if :{?redo_list} \else \set redo_list redo_list
\endif
\if :{?aoi_field} \else \set aoi_field name
\endif
\if :{?parcel_id} \else \set parcel_id ogc_fid
\endif
\if :{?parcel_geometry} \else \set parcel_geometry wkb_geometry
\endif
SELECT to_regclass(:'results') IS NULL AS no_results, to_regclass(:'log') IS NULL AS no_log,
       to_regclass(:'places') IS NOT NULL AS has_places, to_regclass(:'redo_list') IS NOT NULL AS has_redo_list,
       CASE pg_typeof(max(:parcel_id))::text WHEN 'bigint' THEN 'bigint' ELSE 'integer' END AS pid
FROM (SELECT :parcel_id FROM :parcels LIMIT 0) parcels \gset
SELECT n.nspname AS postgis FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'postgis' \gset

\if :no_log
CREATE TABLE :log (
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
);
CREATE INDEX extraction_log_obsid ON :log (obsid);
CREATE INDEX extraction_log_open ON :log (obsid) WHERE finished_at IS NULL;
CREATE INDEX extraction_log_results ON :log (results, card, obsid, run_id) WHERE outcome = 'extracted';
CREATE INDEX extraction_log_redone ON :log (results, card, obsid, run_id) WHERE outcome = 'redone';
CREATE INDEX extraction_log_tables ON :log USING gin ((settings -> 'tables')) WHERE settings ? 'tables';
CREATE INDEX extraction_log_pauses ON :log (retry_after) WHERE retry_after IS NOT NULL;
\endif

\if :no_results
CREATE TABLE :results (
    pid :pid, obsid integer, band varchar(3),
    count real, mean real, std real, min real, max real, p25 real, p50 real, p75 real
);
CREATE INDEX ON :results USING brin (obsid);
ALTER TABLE :results REPLICA IDENTITY FULL;
COMMENT ON TABLE :results IS 'Made by parcel-extraction: every scene in it is in extraction_log';
\endif

GRANT CONNECT, TEMPORARY ON DATABASE :"DBNAME" TO :"worker";
GRANT USAGE ON SCHEMA public TO :"worker";
GRANT USAGE ON SCHEMA :"postgis" TO :"worker";
GRANT SELECT ON :"postgis".spatial_ref_sys TO :"worker";
GRANT SELECT (id, obstime, reference, card, status, footprint), UPDATE (status) ON :catalogue TO :"worker";
GRANT SELECT (:aoi_field, wkb_geometry) ON :aois TO :"worker";
GRANT SELECT (:parcel_id, :parcel_geometry) ON :parcels TO :"worker";
GRANT SELECT, INSERT (obsid, reference, card, aoi, results, worker, versions, settings, attempt), UPDATE (finished_at, outcome,
    status, detail, retry_after, parcels_selected, rows_written, parcels_without_row, chunks_recomputed,
    parcels_without_geometry, seconds, versions, settings) ON :log TO :"worker";
GRANT SELECT (pid, obsid), INSERT, DELETE ON :results TO :"worker";
\if :has_places
GRANT SELECT (obsid, bucket, prefix) ON :places TO :"worker";
\endif
\if :has_redo_list
GRANT SELECT, DELETE ON :redo_list TO :"worker";
\endif

\if :{?clear_results}
SELECT to_regclass(:'clear_results') IS NULL AS no_clear_results \gset
\if :no_clear_results
CREATE TABLE :clear_results (
    pid :pid, obsid integer, band varchar(3),
    count real, mean real, std real, min real, max real, p25 real, p50 real, p75 real
);
CREATE INDEX ON :clear_results USING brin (obsid);
ALTER TABLE :clear_results REPLICA IDENTITY FULL;
COMMENT ON TABLE :clear_results IS 'Made by parcel-extraction: every scene in it is in extraction_log';
\endif
GRANT SELECT (pid, obsid), INSERT, DELETE ON :clear_results TO :"worker";
\endif

\if :{?hists}
SELECT to_regclass(:'hists') IS NULL AS no_hists \gset
\if :no_hists
CREATE TABLE :hists (pid :pid, obsid integer, hist json);
CREATE INDEX ON :hists USING brin (obsid);
ALTER TABLE :hists REPLICA IDENTITY FULL;
COMMENT ON TABLE :hists IS 'Made by parcel-extraction: every scene in it is in extraction_log';
\endif
GRANT SELECT (pid, obsid), INSERT, DELETE ON :hists TO :"worker";
\endif

\if :{?gaps}
SELECT to_regclass(:'gaps') IS NULL AS no_gaps \gset
\if :no_gaps
CREATE TABLE :gaps (pid :pid, obsid integer, reason text, bands text);
CREATE INDEX ON :gaps USING brin (obsid);
ALTER TABLE :gaps REPLICA IDENTITY FULL;
COMMENT ON TABLE :gaps IS 'Made by parcel-extraction: every scene in it is in extraction_log';
\endif
GRANT SELECT (pid, obsid), INSERT, DELETE ON :gaps TO :"worker";
\endif
