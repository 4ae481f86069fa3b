-- :claim
-- Takes the oldest ingested scene of the card that lies in the dates and meets the AOI. The row is locked while it
-- changes and locked rows are passed over, so two workers never take the same one. NO KEY UPDATE, because a plain
-- FOR UPDATE would make other programs' foreign-key inserts wait.
WITH aoi AS MATERIALIZED (
    SELECT ST_Transform(ST_Segmentize(g, greatest(ST_XMax(g) - ST_XMin(g), ST_YMax(g) - ST_YMin(g), 1e-9) / 1000),
                        %(footprint_srid)s::integer) AS geometry
    FROM (SELECT CASE WHEN ST_IsValid(wkb_geometry) THEN wkb_geometry ELSE ST_MakeValid(wkb_geometry) END AS g
          FROM {aois} WHERE {aoi_field}::text = %(aoi)s) area
),
oldest AS MATERIALIZED (
    SELECT d.id
    FROM {catalogue} d
    WHERE d.status = 'ingested'
      AND d.card = %(card)s
      AND d.obstime >= %(start)s AND d.obstime < %(end)s
      AND (%(references)s::text[] IS NULL OR d.reference::text = ANY (%(references)s::text[]))
      AND EXISTS (SELECT 1 FROM aoi
                  WHERE d.footprint && aoi.geometry
                    AND ST_Intersects(
                        CASE WHEN ST_IsValid(d.footprint) THEN d.footprint ELSE ST_MakeValid(d.footprint) END,
                        aoi.geometry))
    ORDER BY d.obstime, d.id
    LIMIT 1
    FOR NO KEY UPDATE OF d SKIP LOCKED
)
UPDATE {catalogue} d SET status = 'inprogress'
FROM oldest
WHERE d.id = oldest.id
RETURNING d.id, d.reference, d.obstime

-- :explain
-- Why a scene that was asked for by name cannot be taken: its status, and whether each condition holds.
SELECT d.status, d.card = %(card)s, d.obstime >= %(start)s AND d.obstime < %(end)s,
       EXISTS (SELECT 1 FROM {aois} a
               WHERE a.{aoi_field}::text = %(aoi)s
                 AND ST_Intersects(d.footprint, ST_Transform(ST_MakeValid(a.wkb_geometry), %(footprint_srid)s::integer)))
FROM {catalogue} d
WHERE d.reference::text = ANY (%(references)s::text[])
ORDER BY d.obstime, d.id

-- :open_run
-- The log row of a new attempt.
INSERT INTO {log} (obsid, reference, card, aoi, results, worker, versions)
VALUES (%(obsid)s, %(reference)s, %(card)s, %(aoi)s, %(results)s, %(worker)s, %(versions)s)
RETURNING run_id

-- :close_run
-- Ends an attempt; touches no row if the attempt has ended already.
UPDATE {log}
SET finished_at = clock_timestamp(), outcome = %(outcome)s, detail = %(detail)s,
    parcels_selected = %(parcels_selected)s, rows_written = %(rows_written)s,
    parcels_without_row = %(parcels_without_row)s, chunks_recomputed = %(chunks_recomputed)s,
    parcels_without_geometry = %(parcels_without_geometry)s,
    seconds = %(seconds)s, versions = versions || %(versions)s
WHERE run_id = %(run_id)s AND finished_at IS NULL

-- :set_status
-- Ends our claim on a scene; touches no row if somebody else has changed its status meanwhile, or has set it free and a
-- later attempt has begun.
UPDATE {catalogue} SET status = %(status)s
WHERE id = %(obsid)s AND status = 'inprogress'
  AND NOT EXISTS (SELECT FROM {log} later WHERE later.obsid = %(obsid)s AND later.run_id > %(run_id)s)

-- :extracted_before
-- For which areas of interest, and into which results tables, earlier attempts have written rows of this scene.
SELECT DISTINCT aoi, results FROM {log} WHERE obsid = %(obsid)s AND outcome = 'extracted'
