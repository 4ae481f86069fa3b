-- :create_list
-- What is to be computed again of scenes that are extracted: one entry for each scene, area and results table. pids: the
-- parcels that are meant, NULL for all; gone: those of them whose rows go even without a parcel. after_run: attempts beyond
-- that began later than the entry, so those that extract the scene do the entry's work. obsid without a foreign key, as in
-- the log.
CREATE TABLE IF NOT EXISTS {list} (
    entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    obsid integer NOT NULL,
    results text NOT NULL,
    aoi text NOT NULL,
    pids bigint[],
    gone bigint[] NOT NULL DEFAULT ARRAY[]::bigint[],
    after_run bigint NOT NULL,
    listed_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (obsid, results, aoi)
)

-- :index_redone
-- Attempts that have done this are looked up before the first claim.
CREATE INDEX IF NOT EXISTS extraction_log_redone ON {log} (results, card, obsid, run_id) WHERE outcome = 'redone'

-- :log_writers
-- The roles that may write into the log: workers.
SELECT DISTINCT pg_get_userbyid(a.grantee)
FROM pg_attribute c, aclexplode(c.attacl) a
WHERE c.attrelid = %(log)s::regclass AND a.privilege_type = 'INSERT' AND a.grantee <> 0
UNION
SELECT pg_get_userbyid(a.grantee)
FROM pg_class t, aclexplode(t.relacl) a
WHERE t.oid = %(log)s::regclass AND a.privilege_type = 'INSERT' AND a.grantee NOT IN (0, t.relowner)

-- :grant_list
-- Lets a worker take entries and remove them.
GRANT SELECT, DELETE ON {list} TO {role}

-- :lock
-- Only one command adds to the list at a time.
SELECT pg_advisory_xact_lock(1128418567, 0)

-- :scenes
-- Scenes of this configuration that are extracted, or just being: number, CARD, reference, time, status; whether the log says
-- that rows of this area went into this results table, or will soon, and whether it knows of any extraction.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT d.id, btrim(d.card::text), {reference}, d.obstime, btrim(d.status::text),
       EXISTS (SELECT FROM {log} r
               WHERE r.obsid = d.id AND r.results = %(results)s AND r.aoi = %(aoi)s
                 AND (r.outcome IN ('extracted', 'no_parcels', 'redone') OR r.finished_at IS NULL)),
       EXISTS (SELECT FROM {log} r WHERE r.obsid = d.id AND r.outcome IN ('extracted', 'no_parcels', 'redone'))
FROM {catalogue} d
WHERE btrim(d.status::text) = ANY (%(statuses)s) AND (%(cards)s::text[] IS NULL OR btrim(d.card::text) = ANY (%(cards)s::text[]))
  AND {wanted}
ORDER BY d.obstime, d.id

-- :named
-- The parcels of a list of others.
SELECT DISTINCT pid::bigint FROM {table} WHERE pid IS NOT NULL

-- :absent
-- Which of these parcels are not in the parcel table.
SELECT wanted.pid FROM unnest(%(pids)s::bigint[]) wanted (pid)
WHERE NOT EXISTS (SELECT FROM {parcels} p WHERE {pid} = wanted.pid)

-- :twins
-- How many values of the key belong to several parcels of a table, or to parcels without one.
SELECT count(*) FROM (SELECT FROM {table} p GROUP BY {key} HAVING count(*) > 1 OR {key} IS NULL) twins

-- :compare
-- What has become of the parcels of an older table, by a key that both have: how many are unchanged, changed, new, gone, or the
-- same with another number; their numbers now, and before (none of those unchanged).
WITH before AS (
    SELECT {old_key}::text AS key, {old_pid}::bigint AS pid, ST_AsEWKB(ST_Force2D({old_geometry}::geometry)) AS shape FROM {old} p
),
now AS (
    SELECT {key}::text AS key, {pid}::bigint AS pid, ST_AsEWKB(ST_Force2D({geometry}::geometry)) AS shape FROM {parcels} p
),
compared AS (
    SELECT CASE WHEN before.key IS NULL THEN 'new'
                WHEN now.key IS NULL THEN 'gone'
                WHEN before.shape IS DISTINCT FROM now.shape THEN 'changed'
                WHEN before.pid IS DISTINCT FROM now.pid THEN 'renumbered'
                ELSE 'unchanged' END AS fate,
           now.pid AS now, before.pid AS before
    FROM before FULL JOIN now ON now.key = before.key
)
SELECT fate, count(*), array_agg(now) FILTER (WHERE fate <> 'unchanged' AND now IS NOT NULL),
       array_agg(before) FILTER (WHERE fate <> 'unchanged' AND before IS NOT NULL)
FROM compared GROUP BY fate

-- :any_row
-- Whether a table of results holds any row of a scene.
SELECT EXISTS (SELECT FROM {table} WHERE obsid = %(obsid)s)

-- :holding
-- Of which of these parcels a table of results holds rows of a scene. `+ 0` as in `results.delete_parcels`.
SELECT DISTINCT pid::bigint FROM {table}
WHERE obsid = %(obsid)s AND pid + 0 IN (SELECT unnest(%(pids)s::bigint[]))

-- :take_back
-- Removes a scene's entry, in the place of which another one comes: what it was about.
DELETE FROM {list} WHERE obsid = %(obsid)s AND results = %(results)s AND aoi = %(aoi)s
RETURNING pids, gone

-- :add
-- A new entry. Attempts that are under way may have selected parcels as they were before.
INSERT INTO {list} (obsid, results, aoi, pids, gone, after_run)
SELECT %(obsid)s, %(results)s, %(aoi)s, %(pids)s::bigint[], %(gone)s::bigint[], coalesce((SELECT max(run_id) FROM {log}), 0)
