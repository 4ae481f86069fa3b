-- :ours
-- Whether entry `l` is one for this worker, its scene `d` as it was when it was listed.
l.results = %(results)s AND l.aoi = %(aoi)s AND d.card = %(card)s AND d.obstime >= %(start)s AND d.obstime < %(end)s
AND btrim(d.status::text) = ANY (%(done)s::text[])

-- :hopeless
-- Whether nothing more will come of entry `l`, of scene `d`: an attempt at it has failed for good, or too many have failed
-- (`most`: by CARD, how many its workers make).
(EXISTS (SELECT FROM {log} r WHERE r.obsid = l.obsid AND r.settings -> 'redo' = to_jsonb(l.entry)
         AND r.outcome = ANY (%(final)s::text[]))
 OR coalesce((SELECT count(*) FROM {log} r WHERE r.obsid = l.obsid AND r.settings -> 'redo' = to_jsonb(l.entry)
              AND r.outcome IN ('error', 'lost')) >= (%(most)s::jsonb ->> btrim(d.card::text))::integer, false))

-- :paused
-- Whether entry `l` waits for its next attempt.
EXISTS (SELECT FROM {log} r WHERE r.obsid = l.obsid AND r.settings -> 'redo' = to_jsonb(l.entry) AND r.retry_after > now())

-- :next
-- The oldest scene of the list that can be taken, but for those that others were seen to be at (`skip`): entry, scene,
-- and why its footprint cannot be used.
SELECT l.entry, d.id, {reference}, d.obstime, {problem}, l.pids, l.gone
FROM {list} l JOIN {catalogue} d ON d.id = l.obsid
WHERE {ours} AND NOT {hopeless} AND NOT {paused} AND d.id <> ALL (%(skip)s::integer[])
  AND EXISTS (SELECT FROM {parcels} p WHERE {geometry} IS NOT NULL)
ORDER BY d.obstime, d.id
LIMIT 1

-- :is_left
-- Whether an entry can still be taken, seen with the scene's lock in hand: somebody may have done it just before.
SELECT EXISTS (SELECT FROM {list} l JOIN {catalogue} d ON d.id = l.obsid
               WHERE l.entry = %(entry)s AND {ours} AND NOT {hopeless} AND NOT {paused})

-- :remove_done
-- Removes entries of scenes that were extracted as a whole since, by an attempt that began later than the entry. Of certain
-- parcels, only if no row was left of others than it had selected: it may be a row that has to go.
DELETE FROM {list} l
WHERE l.results = %(results)s AND l.aoi = %(aoi)s
  AND EXISTS (SELECT FROM {log} r
              WHERE r.obsid = l.obsid AND r.results = l.results AND r.aoi = l.aoi AND r.run_id > l.after_run
                AND (r.outcome = 'superseded'
                     OR r.outcome IN ('extracted', 'no_parcels')
                        AND (l.pids IS NULL OR coalesce(r.settings ->> 'rows_kept', '0') = '0')))

-- :remove_deleted
-- Removes entries of scenes that the catalogue does not have any more.
DELETE FROM {list} l
WHERE l.results = %(results)s AND l.aoi = %(aoi)s AND NOT EXISTS (SELECT FROM {catalogue} d WHERE d.id = l.obsid)
RETURNING l.obsid

-- :set_extracted
-- A scene without parcels that has rows now, of another area or of parcels that have moved, is one that is extracted.
UPDATE {catalogue} SET status = 'extracted' WHERE id = %(obsid)s AND btrim(status::text) = 'no_parcels'

-- :tables
-- For which tables of results scenes of an area are listed, and how many.
SELECT results, count(*) FROM {list} WHERE aoi = %(aoi)s GROUP BY results ORDER BY results

-- :hold
-- A scene's status; its row stays as it is until the transaction ends.
SELECT btrim(status::text) FROM {catalogue} WHERE id = %(obsid)s FOR NO KEY UPDATE

-- :is_open
-- Whether our attempt is still open, the last one at its scene, and its entry in the list.
SELECT EXISTS (SELECT FROM {log} ours
               WHERE ours.run_id = %(run_id)s AND ours.obsid = %(obsid)s AND ours.worker = %(worker)s
                 AND ours.finished_at IS NULL)
   AND NOT EXISTS (SELECT FROM {log} later WHERE later.obsid = %(obsid)s AND later.run_id > %(run_id)s)
   AND EXISTS (SELECT FROM {list} l WHERE l.entry = %(entry)s)

-- :remove
-- Removes an entry that is done; touches no row if it was listed anew, with another number.
DELETE FROM {list} WHERE entry = %(entry)s

-- :pending
-- Entries that wait for their next attempt, the seconds until the first one's, and those that other workers are at. What
-- waits for its product to come is not waited for.
SELECT count(*) FILTER (WHERE until > now()), extract(epoch FROM min(until) FILTER (WHERE until > now()) - now())::float8,
       count(*) FILTER (WHERE at_work)
FROM (SELECT (SELECT max(r.retry_after) FROM {log} r
              WHERE r.obsid = l.obsid AND r.settings -> 'redo' = to_jsonb(l.entry)
                AND r.outcome IS DISTINCT FROM 'absent') AS until,
             EXISTS (SELECT FROM {log} r
                     WHERE r.obsid = l.obsid AND r.finished_at IS NULL
                       AND r.started_at > clock_timestamp() - %(longest)s * interval '1 second') AS at_work
      FROM {list} l JOIN {catalogue} d ON d.id = l.obsid
      WHERE {ours} AND NOT {hopeless}) listed

-- :left
-- How many entries there are for this worker's table and area, of which CARD or status ever; and how many of them are
-- hopeless.
SELECT count(*), count(*) FILTER (WHERE {hopeless})
FROM {list} l JOIN {catalogue} d ON d.id = l.obsid
WHERE l.results = %(results)s AND l.aoi = %(aoi)s AND d.card = %(card)s
