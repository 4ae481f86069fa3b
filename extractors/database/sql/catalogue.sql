-- :claim
-- Takes the oldest ingested scene of the card that lies in the dates and meets the AOI. The row is locked while it
-- changes and locked rows are passed over, so two workers never take the same one. NO KEY UPDATE, because a plain
-- FOR UPDATE would make other programs' foreign-key inserts wait. Passed over as well: scenes that wait for their next
-- attempt (unless asked for by name), and those found to be locked by another session (`skip`).
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
      AND (CASE WHEN %(references)s::text[] IS NULL
                THEN NOT EXISTS (SELECT FROM {log} r WHERE r.obsid = d.id AND r.retry_after > now())
                ELSE d.reference::text = ANY (%(references)s::text[]) END)
      AND d.id <> ALL (%(skip)s::integer[])
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

-- :waiting
-- How many scenes could be claimed but for their pause after a failed attempt, and the seconds until the first is over.
SELECT count(*), extract(epoch FROM min(pause.until) - now())::float8
FROM {catalogue} d
JOIN (SELECT obsid, max(retry_after) AS until FROM {log} WHERE retry_after > now() GROUP BY obsid) pause
  ON pause.obsid = d.id
WHERE d.status = 'ingested' AND d.card = %(card)s AND d.obstime >= %(start)s AND d.obstime < %(end)s
  AND EXISTS (SELECT 1 FROM {aois} a
              WHERE a.{aoi_field}::text = %(aoi)s
                AND ST_Intersects(ST_MakeValid(d.footprint),
                                  ST_Transform(ST_MakeValid(a.wkb_geometry), %(footprint_srid)s::integer)))

-- :under_way
-- How many scenes of the same card, area and dates other workers are at. Attempts that began too long ago are not
-- counted: their workers should have ended themselves. Who asks holds no scene itself.
SELECT count(DISTINCT r.obsid)
FROM {log} r
JOIN {catalogue} d ON d.id = r.obsid
WHERE r.finished_at IS NULL AND r.card = %(card)s AND r.aoi = %(aoi)s
  AND r.started_at > clock_timestamp() - %(longest)s * interval '1 second'
  AND d.status = 'inprogress' AND d.card = %(card)s AND d.obstime >= %(start)s AND d.obstime < %(end)s

-- :lock
-- Marks a scene as being worked on, for as long as this session lives; false if another session has it. In pg_locks:
-- classid 1128418561, objid the scene.
SELECT pg_try_advisory_lock(1128418561, %(obsid)s)

-- :unlock_all
-- Between scenes, a session holds no lock.
SELECT pg_advisory_unlock_all()

-- :open_run
-- The log row of a new attempt. It counts the attempts that failed, or whose worker died, since the scene's status was
-- last anything but `ingested` for good: a person who sets it back gives it all attempts anew.
INSERT INTO {log} (obsid, reference, card, aoi, results, worker, versions, attempt)
SELECT %(obsid)s, %(reference)s, %(card)s, %(aoi)s, %(results)s, %(worker)s, %(versions)s::jsonb,
       1 + (SELECT count(*) FROM {log} counted
            WHERE counted.obsid = %(obsid)s AND counted.outcome IN ('error', 'lost') AND counted.run_id > coalesce(
                (SELECT max(run_id) FROM {log} WHERE obsid = %(obsid)s AND status <> 'ingested'), 0))
RETURNING run_id, attempt

-- :close_run
-- Ends an attempt; touches no row if the attempt has ended already. Scene and worker are compared as well: a server that
-- loses its last commits (a crash with synchronous_commit off, a standby that takes over) gives the same number again.
UPDATE {log}
SET finished_at = clock_timestamp(), outcome = %(outcome)s, status = %(status)s, detail = %(detail)s,
    retry_after = clock_timestamp() + %(pause)s * interval '1 second',
    parcels_selected = %(parcels_selected)s, rows_written = %(rows_written)s,
    parcels_without_row = %(parcels_without_row)s, chunks_recomputed = %(chunks_recomputed)s,
    parcels_without_geometry = %(parcels_without_geometry)s,
    seconds = %(seconds)s, versions = versions || %(versions)s
WHERE run_id = %(run_id)s AND obsid = %(obsid)s AND worker = %(worker)s AND finished_at IS NULL

-- :set_status
-- Ends our claim on a scene; touches no row if somebody else has changed its status meanwhile, has ended our attempt, or
-- has set the scene free and a later attempt has begun.
UPDATE {catalogue} SET status = %(status)s
WHERE id = %(obsid)s AND status = 'inprogress'
  AND EXISTS (SELECT FROM {log} ours
              WHERE ours.run_id = %(run_id)s AND ours.obsid = %(obsid)s AND ours.worker = %(worker)s
                AND ours.finished_at IS NULL)
  AND NOT EXISTS (SELECT FROM {log} later WHERE later.obsid = %(obsid)s AND later.run_id > %(run_id)s)

-- :outcome
-- How an attempt ended; NULL while it has not.
SELECT outcome FROM {log} WHERE run_id = %(run_id)s AND obsid = %(obsid)s AND worker = %(worker)s

-- :not_failed
-- Takes back that a scene has failed, if that was said only because an attempt of ours was taken for a dead worker's.
UPDATE {catalogue} SET status = 'ingested'
WHERE id = %(obsid)s AND status = 'failed'
  AND EXISTS (SELECT FROM {log} ours
              WHERE ours.run_id = %(run_id)s AND ours.obsid = %(obsid)s AND ours.worker = %(worker)s
                AND ours.outcome = 'lost' AND ours.status = 'failed')
  AND NOT EXISTS (SELECT FROM {log} later WHERE later.obsid = %(obsid)s AND later.run_id > %(run_id)s)

-- :not_lost
-- Says of such an attempt how it really ended: it does not count then.
UPDATE {log}
SET outcome = %(outcome)s, detail = %(detail)s, status = CASE WHEN status = 'failed' THEN 'ingested' ELSE status END
WHERE run_id = %(run_id)s AND obsid = %(obsid)s AND worker = %(worker)s AND outcome = 'lost'

-- :abandoned
-- Scenes with an attempt that has not ended, which no session has locked: their workers have died.
SELECT DISTINCT r.obsid
FROM {log} r
WHERE r.finished_at IS NULL
  AND NOT EXISTS (SELECT FROM pg_locks l
                  WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
                    AND l.classid = 1128418561 AND l.objid = r.obsid::oid
                    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
ORDER BY r.obsid

-- :lock_row
-- A scene's status, its row locked; no row if somebody else is at it, or if it does not exist.
SELECT status FROM {catalogue} WHERE id = %(obsid)s FOR NO KEY UPDATE SKIP LOCKED

-- :exists
-- Whether the scene is in the catalogue at all.
SELECT EXISTS (SELECT FROM {catalogue} WHERE id = %(obsid)s)

-- :lock_for_now
-- As `lock`, until the transaction ends: true if nobody alive works on the scene.
SELECT pg_try_advisory_xact_lock(1128418561, %(obsid)s)

-- :lose_runs
-- Ends the attempts at a scene whose workers have died.
UPDATE {log}
SET finished_at = clock_timestamp(), outcome = 'lost', detail = 'its worker died, or lost its database session',
    status = CASE WHEN NOT %(ours)s THEN NULL WHEN attempt >= %(most)s THEN 'failed' ELSE 'ingested' END
WHERE obsid = %(obsid)s AND finished_at IS NULL
RETURNING status

-- :free_scene
-- Gives the scene of a worker that died its status.
UPDATE {catalogue} SET status = %(status)s WHERE id = %(obsid)s AND status = 'inprogress'

-- :foreign
-- Scenes that some other program has left `inprogress`: no attempt of ours is open.
SELECT d.id, d.reference::text
FROM {catalogue} d
WHERE d.status = 'inprogress' AND d.card = %(card)s AND d.obstime >= %(start)s AND d.obstime < %(end)s
  AND NOT EXISTS (SELECT FROM {log} r WHERE r.obsid = d.id AND r.finished_at IS NULL)
ORDER BY d.obstime, d.id

-- :adopt
-- Takes such a scene from the other program.
UPDATE {catalogue} SET status = 'ingested'
WHERE id = %(obsid)s AND status = 'inprogress'
  AND NOT EXISTS (SELECT FROM {log} r WHERE r.obsid = %(obsid)s AND r.finished_at IS NULL)

-- :extracted_before
-- For which areas of interest, and into which results tables, earlier attempts have written rows of this scene.
SELECT DISTINCT aoi, results FROM {log} WHERE obsid = %(obsid)s AND outcome = 'extracted'
