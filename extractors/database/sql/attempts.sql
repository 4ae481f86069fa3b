-- :begin
-- The log row of a new attempt. It counts the attempts that failed, or whose worker died, since the scene's status was
-- last anything but `ingested` for good: a person who sets it back gives it all attempts anew. Of a scene that is done
-- again (`redo`), it counts those at the same entry of the list, which others do not count.
INSERT INTO {log} (obsid, reference, card, aoi, results, worker, versions, settings, attempt)
SELECT %(obsid)s, %(reference)s, %(card)s, %(aoi)s, %(results)s, %(worker)s, %(versions)s::jsonb, %(settings)s::jsonb,
       1 + (SELECT count(*) FROM {log} counted
            WHERE counted.obsid = %(obsid)s AND counted.outcome IN ('error', 'lost')
              AND counted.settings -> 'redo' IS NOT DISTINCT FROM %(redo)s::jsonb AND counted.run_id > coalesce(
                (SELECT max(run_id) FROM {log} WHERE obsid = %(obsid)s AND status <> 'ingested'), 0))
RETURNING run_id, attempt,
          -- Seconds since the first of these attempts, of whatever kind.
          (SELECT coalesce(extract(epoch FROM now() - min(earlier.started_at)), 0)::float8 FROM {log} earlier
           WHERE earlier.obsid = %(obsid)s
             AND earlier.settings -> 'redo' IS NOT DISTINCT FROM %(redo)s::jsonb AND earlier.run_id > coalesce(
               (SELECT max(run_id) FROM {log} WHERE obsid = %(obsid)s AND status <> 'ingested'), 0))

-- :end
-- Ends an attempt; touches no row if it has ended already. Scene and worker are compared as well: a server that loses its
-- last commits (a crash with synchronous_commit off, a standby that takes over) gives the same number again.
UPDATE {log}
SET finished_at = clock_timestamp(), outcome = %(outcome)s, status = %(status)s, detail = %(detail)s,
    retry_after = clock_timestamp() + %(pause)s * interval '1 second',
    parcels_selected = %(parcels_selected)s, rows_written = %(rows_written)s,
    parcels_without_row = %(parcels_without_row)s, chunks_recomputed = %(chunks_recomputed)s,
    parcels_without_geometry = %(parcels_without_geometry)s,
    seconds = %(seconds)s, settings = %(settings)s, versions = versions || %(versions)s
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
-- How an attempt ended, and why; NULL while it has not.
SELECT outcome, detail FROM {log} WHERE run_id = %(run_id)s AND obsid = %(obsid)s AND worker = %(worker)s

-- :lose
-- Ends the attempts at a scene whose workers have died.
UPDATE {log}
SET finished_at = clock_timestamp(), outcome = 'lost', detail = 'its worker died, or lost its database session',
    status = CASE WHEN NOT %(ours)s THEN NULL WHEN attempt >= %(most)s THEN 'failed' ELSE 'ingested' END
WHERE obsid = %(obsid)s AND finished_at IS NULL
RETURNING status

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

-- :extracted_before
-- Whether earlier attempts have written rows of this scene.
SELECT EXISTS (SELECT FROM {log} WHERE obsid = %(obsid)s AND outcome IN ('extracted', 'redone'))
