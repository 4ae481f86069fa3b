-- :begin
-- All that the transaction reads is of one moment, and it writes nothing.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY

-- :now
-- When the transaction began.
SELECT now()

-- :wanted
-- Whether scene `d` is one of this configuration: of its dates, and meeting its AOI.
coalesce(d.obstime >= %(start)s AND d.obstime < %(end)s AND {storable} AND {met}, false)

-- :scenes
-- How many scenes there are by CARD, status, and whether they are of this configuration; and how many of them wait for their
-- next attempt. OFFSET 0 keeps the footprints themselves from being sorted, which takes temporary files.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT card, status, wanted, count(*), count(*) FILTER (WHERE waits)
FROM (SELECT btrim(d.card::text) AS card, btrim(d.status::text) AS status, {wanted} AS wanted, {waits} AS waits
      FROM {catalogue} d
      WHERE %(cards)s::text[] IS NULL OR btrim(d.card::text) = ANY (%(cards)s::text[])
      OFFSET 0) scene
GROUP BY card, status, wanted

-- :waits
-- Whether scene `d` waits for its next attempt.
d.status = 'ingested' AND EXISTS (SELECT FROM {log} r WHERE r.obsid = d.id AND r.retry_after > now())

-- :under_way
-- Scenes of this configuration that are `inprogress`, and attempts that have not ended: CARD, scene, whether it is such a one;
-- number of the attempt, reference, worker, which attempt, seconds; NULL without an attempt; whether the scene is done again.
WITH aoi AS MATERIALIZED (
{areas}
),
scene AS (
    SELECT d.id, btrim(d.card::text) AS card, {reference} AS reference FROM {catalogue} d
    WHERE d.status = 'inprogress' AND {wanted}
),
attempt AS (
    SELECT DISTINCT ON (obsid) * FROM {log} WHERE finished_at IS NULL ORDER BY obsid, run_id DESC
)
SELECT coalesce(scene.card, attempt.card), coalesce(scene.id, attempt.obsid), scene.id IS NOT NULL, attempt.run_id,
       coalesce(scene.reference, attempt.reference), attempt.worker, attempt.attempt,
       extract(epoch FROM now() - attempt.started_at)::float8, coalesce(to_jsonb(attempt.*) -> 'settings' ? 'redo', false)
FROM scene FULL JOIN attempt ON attempt.obsid = scene.id
WHERE %(cards)s::text[] IS NULL OR coalesce(scene.card, attempt.card) = ANY (%(cards)s::text[])
ORDER BY attempt.worker, 2

-- :again
-- Scenes that are listed to be done again, by CARD: those that can be taken, that workers are at, that have failed, and that
-- nobody takes now.
SELECT card, count(*) FILTER (WHERE wanted AND NOT failed AND NOT under_way), count(*) FILTER (WHERE under_way),
       count(*) FILTER (WHERE failed AND NOT under_way), count(*) FILTER (WHERE NOT wanted AND NOT failed AND NOT under_way)
FROM (SELECT btrim(d.card::text) AS card, {hopeless} AS failed,
             coalesce(btrim(d.status::text) = ANY (%(done)s::text[]) AND d.obstime >= %(start)s AND d.obstime < %(end)s, false) AS wanted,
             EXISTS (SELECT FROM {log} r
                     WHERE r.obsid = l.obsid AND r.finished_at IS NULL AND r.settings -> 'redo' = to_jsonb(l.entry)) AS under_way
      FROM {list} l JOIN {catalogue} d ON d.id = l.obsid
      WHERE l.results = %(results)s AND l.aoi = %(aoi)s) listed
GROUP BY card
ORDER BY card

-- :elsewhere
-- Scenes that are listed to be done again for other results tables or areas: for which, and how many.
SELECT l.results, l.aoi, count(*)
FROM {list} l
WHERE (l.results, l.aoi) <> (%(results)s, %(aoi)s)
  AND (%(cards)s::text[] IS NULL
       OR EXISTS (SELECT FROM {catalogue} d WHERE d.id = l.obsid AND btrim(d.card::text) = ANY (%(cards)s::text[])))
GROUP BY l.results, l.aoi
ORDER BY l.results, l.aoi

-- :rates
-- By CARD, attempts of the last hour after which a scene has a status for good; for how many seconds of that hour there was an
-- attempt at all, until now; and seconds since the last attempt began or ended. Those of dead workers (`lost`) are ended by
-- whoever finds them, at whatever time.
SELECT card,
       count(*) FILTER (WHERE finished_at > now() - interval '1 hour' AND status <> 'ingested' AND outcome <> 'lost'),
       extract(epoch FROM now() - greatest(
           now() - interval '1 hour',
           min(started_at) FILTER (WHERE finished_at IS NULL
                                      OR finished_at > now() - interval '1 hour' AND outcome <> 'lost')))::float8,
       extract(epoch FROM now() - max(greatest(started_at, finished_at)))::float8
FROM {log}
WHERE aoi = %(aoi)s AND (%(cards)s::text[] IS NULL OR card = ANY (%(cards)s::text[]))
GROUP BY card

-- :failures
-- The last attempts that failed.
SELECT finished_at, card, obsid, reference, outcome, status, detail
FROM {log}
WHERE outcome = ANY (%(outcomes)s) AND (%(cards)s::text[] IS NULL OR card = ANY (%(cards)s::text[])) AND aoi = %(aoi)s AND finished_at IS NOT NULL
ORDER BY finished_at DESC, run_id DESC
LIMIT %(most)s

-- :locks
-- Sessions that hold scenes: scene, process, and what that is doing, as far as the database can tell.
SELECT l.objid::bigint, l.pid,
       CASE WHEN EXISTS (SELECT FROM pg_locks slot
                         WHERE slot.locktype = 'advisory' AND slot.granted AND slot.objsubid = 2
                           AND slot.classid = 1128418562 AND slot.pid = l.pid) THEN 'downloading'
            WHEN a.state = 'active' AND a.query ~ 'COPY .* TO STDOUT' THEN 'selecting parcels'
            WHEN a.state = 'active' AND a.query ~ 'COPY .* FROM STDIN' OR a.state ~ '^idle in transaction' THEN 'writing rows'
            WHEN a.state = 'active' THEN 'asking the database'
            ELSE 'downloading or computing' END
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = 1128418561 AND l.objid::bigint <> 0
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())

-- :workers
-- Sessions of workers in this database.
SELECT pid FROM pg_stat_activity WHERE application_name = 'parcel-extraction' AND datname = current_database()

-- :still_open
-- Which of these attempts have not ended yet.
SELECT run_id FROM {log} WHERE run_id = ANY (%(runs)s) AND finished_at IS NULL

-- :tables
-- The table into which the scenes of a CARD have been extracted, or done again: the configured one, if it is among them, else the last.
SELECT DISTINCT ON (card) card, results FROM {log}
WHERE aoi = %(aoi)s AND outcome IN ('extracted', 'redone')
ORDER BY card, results <> %(results)s, run_id DESC
