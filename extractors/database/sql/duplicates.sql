-- :is_product
-- Whether scene `d` has the name of a Sentinel-2 product, as S2A_MSIL2A_20201001T103031_N0214_R108_T32UNF_20201001T135108,
-- with or without .SAFE. All parts of one have a fixed width.
{reference} ~ ('^S2[A-D]_MSIL2A_' || repeat('[0-9]', 8) || 'T' || repeat('[0-9]', 6) || '_N' || repeat('[0-9]', 4)
               || '_R' || repeat('[0-9]', 3) || '_T[0-9][0-9]' || repeat('[A-Z]', 3) || '_' || repeat('[0-9]', 8)
               || 'T' || repeat('[0-9]', 6) || '([.]SAFE)?$')

-- :datatake
-- Of such a name, what products of the same ground at the same moment share: satellite, start of the datatake, orbit, tile.
concat(left({product}, 26), substr({product}, 33, 12))

-- :age
-- Of such a name, what tells products of one datatake and tile apart, the oldest first: baseline (those from 99.00 on,
-- which are not ESA's own or never were in its archive, before all others), then the time of generation.
ARRAY[CASE substr({product}, 29, 2) WHEN '99' THEN 'others' ELSE 'routine' END, substr({product}, 29, 4), substr({product}, 46, 15)]

-- :usable
-- The footprint of scene `d`, if it can be used.
CASE WHEN {problem} IS NULL THEN {footprint} END

-- :alike
-- Whether two footprints overlap by 0.95 (intersection over union, which is the sum without the intersection): those of
-- partial passes do not.
ST_Area(own.footprint) > 0
AND 1.95 * ST_Area(ST_Intersection(own.footprint, sibling.footprint))
    >= 0.95 * (ST_Area(own.footprint) + ST_Area(sibling.footprint))

-- :is_newer
-- Of two of a datatake and tile, whether `sibling` is newer. If both are equally old, the one that came first counts as the
-- newer one.
(sibling.age, -sibling.id::bigint) > (own.age, -own.id::bigint)

-- :siblings
-- The siblings of a scene (`own`, its number), of those that this worker is for; with the CTE `aoi`. They are of the same
-- datatake and tile, and have like footprints. Observed within an hour, as whoever fills catalogues may read times to the
-- second or not; so an index on card and obstime leads to them.
SELECT sibling.id, sibling.reference, sibling.status, sibling.age, {is_newer} AS newer
FROM (SELECT d.id, d.obstime, {datatake} AS datatake, {age} AS age, {usable} AS footprint
      FROM {catalogue} d
      WHERE d.id = {own} AND {is_product} OFFSET 0) own
CROSS JOIN LATERAL (
    SELECT d.id, {reference} AS reference, btrim(d.status::text) AS status, {age} AS age, {usable} AS footprint
    FROM {catalogue} d
    WHERE d.obstime BETWEEN own.obstime - interval '1 hour' AND own.obstime + interval '1 hour' AND d.id <> own.id
      AND CASE WHEN {is_product} THEN {datatake} = own.datatake ELSE false END
      AND {wanted}
    OFFSET 0) sibling
WHERE {alike}

-- :awaited
-- Whether older ones have to wait for a sibling. One that the store does not have yet is not waited for: when it comes, it
-- replaces what was extracted meanwhile.
(sibling.status = 'inprogress'
 OR sibling.status = 'ingested'
    AND NOT EXISTS (SELECT FROM {log} r
                    WHERE r.obsid = sibling.id AND r.outcome = 'absent' AND r.retry_after > now()))

-- :newer
-- The sibling that decides about a scene: the newest that is extracted; without one, the newest that it has to wait for.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT sibling.id, sibling.reference, sibling.status
FROM ({siblings}) sibling
WHERE sibling.newer AND (sibling.status = 'extracted' OR {awaited})
ORDER BY sibling.status = 'extracted' DESC, sibling.age DESC, sibling.id
LIMIT 1

-- :passed_over
-- All scenes that have to wait for a newer sibling, of those observed in the hours from this moment on: candidates come in
-- that order, and each would have to be found out by a claim of its own.
WITH aoi AS MATERIALIZED (
{areas}
),
near AS MATERIALIZED (
    SELECT d.id, btrim(d.status::text) AS status, {datatake} AS datatake, {age} AS age
    FROM {catalogue} d
    WHERE d.card = %(card)s AND d.status IN ('ingested', 'inprogress') AND {is_product}
      AND d.obstime BETWEEN %(obstime)s::timestamp - interval '1 hour' AND %(obstime)s::timestamp + interval '4 hours'
),
pair AS MATERIALIZED (
    SELECT own.id AS own, sibling.id AS sibling
    FROM near own JOIN near sibling ON sibling.datatake = own.datatake
    WHERE own.status = 'ingested' AND {is_newer} AND {awaited}
),
shape AS MATERIALIZED (
    SELECT d.id, {usable} AS footprint
    FROM {catalogue} d
    WHERE d.id IN (SELECT own FROM pair UNION SELECT sibling FROM pair) AND {wanted}
)
SELECT DISTINCT own.id
FROM pair JOIN shape own ON own.id = pair.own JOIN shape sibling ON sibling.id = pair.sibling
WHERE {alike}

-- :named
-- The number of the scene with one of these references.
(SELECT d.id FROM {catalogue} d WHERE {reference} = ANY (%(references)s::text[]) ORDER BY d.obstime, d.id LIMIT 1)

-- :older
-- A scene's older siblings, their rows locked, so that their statuses stay as they are read.
WITH aoi AS MATERIALIZED (
{areas}
),
older AS MATERIALIZED (
SELECT sibling.id, sibling.reference FROM ({siblings}) sibling WHERE NOT sibling.newer
)
SELECT d.id, older.reference, btrim(d.status::text)
FROM {catalogue} d JOIN older ON older.id = d.id
ORDER BY d.id
FOR NO KEY UPDATE OF d

-- :lock
-- Until the transaction ends, no sibling of this scene is published. In pg_locks: classid 1128418563, objid what the
-- siblings' names share.
SELECT pg_advisory_xact_lock(1128418563, hashtext({datatake}))

-- :strangers
-- Sessions that hold the siblings' lock of this scene and work on none, as every worker does that publishes: user, address,
-- process.
SELECT coalesce(quote_ident(a.usename), 'somebody'), coalesce(host(a.client_addr), 'an address that is not shown'), l.pid
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = 1128418563
  AND l.objid = hashtext({datatake})::oid
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND NOT EXISTS (SELECT FROM pg_locks scene
                  WHERE scene.locktype = 'advisory' AND scene.granted AND scene.objsubid = 2
                    AND scene.classid = 1128418561 AND scene.pid = l.pid)
ORDER BY l.pid

-- :set_status
-- Says that a newer sibling has taken a scene's place.
UPDATE {catalogue} SET status = 'superseded' WHERE id = %(obsid)s

-- :end
-- Says the same in the log.
UPDATE {log} SET finished_at = clock_timestamp(), outcome = 'superseded', status = 'superseded', detail = %(detail)s
WHERE run_id = %(run_id)s

-- :why
-- What the log says of why a scene with one of these references is superseded.
SELECT r.detail
FROM {log} r JOIN {catalogue} d ON d.id = r.obsid
WHERE {reference} = ANY (%(references)s::text[]) AND r.outcome = 'superseded'
ORDER BY r.run_id DESC
LIMIT 1

-- :delete_replaced
-- Removes a scene's rows of the parcels of which its newer sibling has rows, there or in the results table.
DELETE FROM {table}
WHERE obsid = %(obsid)s AND pid IN (SELECT pid FROM {results} WHERE obsid = %(newer)s
                                    UNION SELECT pid FROM {table} WHERE obsid = %(newer)s)
