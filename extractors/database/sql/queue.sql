-- :wanted
-- Which scenes `d` a worker is for: those of its card and its dates that meet its AOI.
d.card = %(card)s AND d.obstime >= %(start)s AND d.obstime < %(end)s AND {storable} AND {met}

-- :storable
-- Whether the number of scene `d` is one that locks, log and results can hold.
d.id BETWEEN -2147483648 AND 2147483647

-- :reference
-- The reference of a scene, whatever blanks and line ends are around it.
coalesce(btrim(d.reference::text, E' \t\r\n'), '')

-- :oldest
-- The oldest ingested scene that this worker is for; with the CTE `aoi`. Candidates are gone through in their order, so
-- that only those in front are held against the AOI: the quicker with an index on (card, obstime, id). Passed over are
-- scenes that wait for their next attempt (unless asked for by name), and those found to be locked by another session
-- (`skip`). While there are no parcels, there is none.
SELECT d.id
FROM (SELECT d.id, d.obstime
      FROM {catalogue} d
      WHERE d.status = 'ingested' AND d.card = %(card)s AND d.obstime >= %(start)s AND d.obstime < %(end)s
        AND (%(references)s::text[] IS NULL OR {reference} = ANY (%(references)s::text[]))
      ORDER BY d.obstime, d.id
      OFFSET 0) candidate
JOIN {catalogue} d ON d.id = candidate.id
-- All conditions once more: of a row that has changed meanwhile, these are looked at again.
WHERE d.status = 'ingested' AND {wanted}
  AND EXISTS (SELECT FROM {parcels} p WHERE {geometry} IS NOT NULL)
  AND d.id <> ALL (%(skip)s::integer[])
  AND (%(references)s::text[] IS NOT NULL
       OR NOT EXISTS (SELECT FROM {log} r WHERE r.obsid = d.id AND r.retry_after > now() OFFSET 0))
ORDER BY candidate.obstime, candidate.id
LIMIT 1

-- :claim
-- Takes the oldest scene (`oldest`). The row is locked while it changes and locked rows are passed over, so two workers
-- never take the same one. Also says why its footprint cannot be used, if so. NO KEY UPDATE, because a plain FOR UPDATE would make other programs' foreign-key inserts wait.
WITH aoi AS MATERIALIZED (
{areas}
),
oldest AS MATERIALIZED (
{oldest}
FOR NO KEY UPDATE OF d SKIP LOCKED
)
UPDATE {catalogue} d SET status = 'inprogress'
FROM oldest
WHERE d.id = oldest.id
RETURNING d.id, {reference}, d.obstime, {problem}

-- :claimable
-- Whether there is a scene to take.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT EXISTS (
{oldest}
)

-- :explain
-- Why a scene that was asked for by name cannot be taken: its status, and whether each condition holds.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT d.status, d.card = %(card)s, d.obstime >= %(start)s AND d.obstime < %(end)s, {met}
FROM {catalogue} d
WHERE {reference} = ANY (%(references)s::text[])
ORDER BY d.obstime, d.id

-- :any_wanted
-- Whether any scene is for this worker, or was, or will be.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT EXISTS (SELECT FROM {catalogue} d WHERE d.status::text = ANY (%(statuses)s::text[]) AND {wanted})

-- :excluded
-- How many scenes there are, and how many of them each condition excludes.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT count(*),
       count(*) FILTER (WHERE d.card = %(card)s IS NOT TRUE),
       count(*) FILTER (WHERE (d.obstime >= %(start)s AND d.obstime < %(end)s) IS NOT TRUE),
       count(*) FILTER (WHERE {met} IS NOT TRUE),
       count(*) FILTER (WHERE (d.status::text = ANY (%(statuses)s::text[])) IS NOT TRUE)
FROM {catalogue} d

-- :waiting
-- How many scenes could be claimed but for their pause after a failed attempt, and the seconds until the first is over.
-- Scenes whose products are still to come are not waited for.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT count(*), extract(epoch FROM min(pause.until) - now())::float8
FROM {catalogue} d
JOIN (SELECT obsid, max(retry_after) AS until FROM {log}
      WHERE retry_after > now() AND outcome IS DISTINCT FROM 'absent' GROUP BY obsid) pause
  ON pause.obsid = d.id
WHERE d.status = 'ingested' AND {wanted}

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
SELECT pg_try_advisory_lock(1128418561, %(obsid)s::integer)

-- :strangers
-- Sessions that hold the lock of one of these scenes (`skip`) and work on none: user, address, process, scene.
SELECT coalesce(quote_ident(a.usename), 'somebody'), coalesce(host(a.client_addr), 'an address that is not shown'), l.pid,
       l.objid::bigint
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = 1128418561
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.objid = ANY (%(skip)s::integer[]::oid[])
  AND NOT EXISTS (SELECT FROM {log} r WHERE r.obsid::oid = l.objid AND r.finished_at IS NULL)

-- :unlock_all
-- Between scenes, a session holds no lock.
SELECT pg_advisory_unlock_all()

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
SELECT pg_try_advisory_xact_lock(1128418561, %(obsid)s::integer)

-- :free_scene
-- Gives the scene of a worker that died its status.
UPDATE {catalogue} SET status = %(status)s WHERE id = %(obsid)s AND status = 'inprogress'

-- :foreign
-- Scenes that some other program has left `inprogress`: no attempt of ours is open.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT d.id, {reference}
FROM {catalogue} d
WHERE d.status = 'inprogress' AND {wanted}
  AND NOT EXISTS (SELECT FROM {log} r WHERE r.obsid = d.id AND r.finished_at IS NULL)
ORDER BY d.obstime, d.id

-- :adopt
-- Takes such a scene from the other program.
UPDATE {catalogue} SET status = 'ingested'
WHERE id = %(obsid)s AND status = 'inprogress'
  AND NOT EXISTS (SELECT FROM {log} r WHERE r.obsid = %(obsid)s AND r.finished_at IS NULL)
