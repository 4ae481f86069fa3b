-- :is_product
-- Whether scene `d` has the name of a Sentinel-2 product, as S2A_MSIL2A_20201001T103031_N0214_R108_T32UNF_20201001T135108,
-- with or without .SAFE. All parts of one have a fixed width.
{reference} ~ '^S2[A-D]_MSIL2A_[0-9]{{8}}T[0-9]{{6}}_N[0-9]{{4}}_R[0-9]{{3}}_T[0-9]{{2}}[A-Z]{{3}}_[0-9]{{8}}T[0-9]{{6}}([.]SAFE)?$'

-- :datatake
-- Of such a name, what products of the same ground at the same moment share: satellite, start of the datatake, orbit, tile.
concat(left({product}, 26), substr({product}, 33, 12))

-- :age
-- Of such a name, what tells products of one datatake and tile apart, the oldest first: baseline (those from 99.00 on,
-- which are not ESA's own or never were in its archive, before all others), then the time of generation.
ARRAY[CASE substr({product}, 29, 2) WHEN '99' THEN 'others' ELSE 'routine' END, substr({product}, 29, 4), substr({product}, 46, 15)]

-- :siblings
-- The siblings of the scene with the number {own}, among the scenes that this worker is for; with the CTE `aoi`. They are
-- of the same datatake and tile, and their footprints overlap by 0.95 (intersection over union): those of partial passes
-- do not. Observed within an hour, as whoever fills catalogues may read times to the second or not; so an index on card
-- and obstime leads to them. Of two that are equally old, the one that came first counts as the newer one.
SELECT sibling.id, sibling.reference, sibling.status, sibling.age,
       (sibling.age, -sibling.id::bigint) > (own.age, -own.id::bigint) AS newer
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
-- Over 0.95 of the union, which is the sum without the intersection.
WHERE ST_Area(own.footprint) > 0
  AND 1.95 * ST_Area(ST_Intersection(own.footprint, sibling.footprint))
      >= 0.95 * (ST_Area(own.footprint) + ST_Area(sibling.footprint))

-- :usable
-- The footprint of scene `d`, if it can be used.
CASE WHEN {problem} IS NULL THEN {footprint} END

-- :goes_first
-- Whether a sibling has to be done with before an older one may be taken. One that the store does not have yet is not
-- waited for: when it comes, it replaces what was extracted meanwhile.
sibling.newer
AND (sibling.status = 'inprogress'
     OR sibling.status = 'ingested'
        AND NOT EXISTS (SELECT FROM {log} r
                        WHERE r.obsid = sibling.id AND r.outcome = 'absent' AND r.retry_after > now()))

-- :turn
-- A condition of `queue.oldest`: no newer sibling goes first.
AND NOT EXISTS (SELECT FROM ({siblings}) sibling WHERE {goes_first} OFFSET 0)

-- :first
-- The newest of the siblings that go first.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT sibling.id, sibling.reference, sibling.status
FROM (SELECT d.id FROM {catalogue} d WHERE {reference} = ANY (%(references)s::text[])) named
CROSS JOIN LATERAL ({siblings}) sibling
WHERE {goes_first}
ORDER BY sibling.age DESC, sibling.id
LIMIT 1

-- :replacement
-- The newest of a scene's newer siblings that are extracted; no row if there is none.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT sibling.id, sibling.reference
FROM ({siblings}) sibling
WHERE sibling.newer AND sibling.status = 'extracted'
ORDER BY sibling.age DESC, sibling.id
LIMIT 1

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
-- Removes a scene's rows of the parcels of which its newer sibling has rows.
DELETE FROM {table} WHERE obsid = %(obsid)s AND pid IN (SELECT pid FROM {results} WHERE obsid = %(newer)s)
