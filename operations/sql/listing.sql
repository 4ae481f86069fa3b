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

-- :number_on
-- Entries get numbers that the log does not know, also if there was a list before.
SELECT setval(pg_get_serial_sequence(%(list)s, 'entry'),
              (SELECT coalesce(max((settings ->> 'redo')::bigint), 0) + 1 FROM {log}), false)

-- :log_users
-- The roles that may read the log, its owner among them, but for ourselves, who own the list; and whether they may write into it, as workers.
SELECT pg_get_userbyid(a.grantee), bool_or(a.privilege_type = 'INSERT')
FROM (SELECT a.grantee, a.privilege_type
      FROM pg_class t, aclexplode(coalesce(t.relacl, acldefault('r', t.relowner))) a
      WHERE t.oid = %(log)s::regclass
      UNION
      SELECT a.grantee, a.privilege_type
      FROM pg_class t JOIN pg_attribute c ON c.attrelid = t.oid, aclexplode(c.attacl) a
      WHERE t.oid = %(log)s::regclass) a
WHERE a.privilege_type IN ('SELECT', 'INSERT') AND a.grantee <> 0 AND pg_get_userbyid(a.grantee) <> current_user
GROUP BY a.grantee

-- :let_take
-- Lets a worker take entries and remove them.
GRANT SELECT, DELETE ON {list} TO {role}

-- :let_read
-- Lets somebody see it who may see the log.
GRANT SELECT ON {list} TO {role}

-- :forget
-- Removes the entries for a table.
DELETE FROM {list} WHERE results = %(results)s

-- :scenes
-- Scenes of this configuration that are extracted, or just being: number, CARD, reference, time, status; whether the log says
-- that rows of this area went into this results table, or will soon; whether into any; whether it knows of any extraction; and
-- why the scene's footprint cannot be used.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT d.id, btrim(d.card::text), {reference}, d.obstime, btrim(d.status::text),
       EXISTS (SELECT FROM {log} r
               WHERE r.obsid = d.id AND r.results = %(results)s AND r.aoi = %(aoi)s
                 AND (r.outcome IN ('extracted', 'no_parcels', 'redone') OR r.finished_at IS NULL)),
       EXISTS (SELECT FROM {log} r WHERE r.obsid = d.id AND r.aoi = %(aoi)s AND r.outcome IN ('extracted', 'no_parcels', 'redone')),
       EXISTS (SELECT FROM {log} r WHERE r.obsid = d.id AND r.outcome IN ('extracted', 'no_parcels', 'redone')),
       {problem}
FROM {catalogue} d
WHERE btrim(d.status::text) = ANY (%(statuses)s) AND (%(cards)s::text[] IS NULL OR btrim(d.card::text) = ANY (%(cards)s::text[]))
  AND {wanted}
ORDER BY d.obstime, d.id

-- :make_wanted
-- The parcels that are meant, for as long as the session lives: sent to the server once, not with every scene.
CREATE TEMPORARY TABLE wanted_parcels (pid bigint PRIMARY KEY, gone boolean NOT NULL DEFAULT false)

-- :named
-- The parcels of a list of others.
INSERT INTO {meant} (pid)
SELECT DISTINCT pid::bigint FROM {table} WHERE pid IS NOT NULL

-- :note_gone
-- Which of them are gone. A join of its own: in a SELECT list, each would be looked for in all of a table without an index.
UPDATE {meant} m SET gone = true WHERE NOT EXISTS (SELECT FROM {parcels} p WHERE {pid} = m.pid)

-- :keep_gone
-- Leaves alone what is gone.
DELETE FROM {meant} WHERE gone

-- :count
-- How many are meant.
SELECT count(*) FROM {meant}

-- :count_gone
-- And how many of them are gone.
SELECT count(*), count(*) FILTER (WHERE gone) FROM {meant}

-- :use_indexes
-- Until the session ends, rows are looked up through an index if there is any.
SET enable_seqscan = off

-- :analyze
-- Tells the planner how many there are.
ANALYZE {meant}

-- :twins
-- How many values of the key belong to several parcels of a table, or to parcels without one.
SELECT count(*) FROM (SELECT FROM {table} p GROUP BY {key} HAVING count(*) > 1 OR {key} IS NULL) twins

-- :compare
-- What has become of the parcels of an older table, by a key that both have: how many are unchanged, changed, new, gone, or the
-- same with another number. Their numbers now, and before (but for those unchanged), are meant. A polygon and
-- a collection of this one alone are the same: imports make the one or the other.
WITH before AS (
    SELECT {old_key}::text AS key, {old_pid}::bigint AS pid, ST_AsEWKB(ST_Multi(ST_Force2D({old_geometry}::geometry))) AS shape FROM {old} p
),
now AS (
    SELECT {key}::text AS key, {pid}::bigint AS pid, ST_AsEWKB(ST_Multi(ST_Force2D({geometry}::geometry))) AS shape FROM {parcels} p
),
compared AS MATERIALIZED (
    SELECT CASE WHEN before.key IS NULL THEN 'new'
                WHEN now.key IS NULL THEN 'gone'
                WHEN before.shape IS DISTINCT FROM now.shape THEN 'changed'
                WHEN before.pid IS DISTINCT FROM now.pid THEN 'renumbered'
                ELSE 'unchanged' END AS fate,
           now.pid AS now, before.pid AS before
    FROM before FULL JOIN now ON now.key = before.key
),
noted AS (
    INSERT INTO {meant} (pid)
    SELECT different.pid
    FROM (SELECT now AS pid FROM compared WHERE fate <> 'unchanged'
          UNION SELECT before FROM compared WHERE fate <> 'unchanged') different
    WHERE different.pid IS NOT NULL
)
SELECT fate, count(*) FROM compared GROUP BY fate

-- :any_row
-- Whether a table of results holds any row of a scene.
SELECT EXISTS (SELECT FROM {table} WHERE obsid = %(obsid)s)

-- :chosen
-- Whether parcel `p` is meant.
{pid} IN (SELECT pid FROM {meant})

-- :found
-- The parcels of a scene that are meant: those that meet it now (`selected`), and those of which it holds rows.
, found AS MATERIALIZED (
    SELECT pid::bigint AS pid FROM selected WHERE pid IS NOT NULL
    {held}
)

-- :held
-- Of one table of results. `+ 0` as in `results.delete_parcels`.
UNION SELECT pid::bigint FROM {table} WHERE obsid = %(obsid)s AND pid + 0 IN (SELECT pid FROM {meant})

-- :count_found
-- How many these are.
SELECT count(*) FROM found

-- :list_found
-- Lists a scene with them, if there are any; how many it is listed with then.
INSERT INTO {list} AS l (obsid, results, aoi, pids, gone, after_run)
SELECT %(obsid)s, %(results)s, %(aoi)s, array_agg(found.pid ORDER BY found.pid),
       coalesce(array_agg(found.pid ORDER BY found.pid) FILTER (WHERE meant.gone), ARRAY[]::bigint[]), {last_run}
FROM found JOIN {meant} meant USING (pid)
HAVING count(*) > 0
{put_together}
RETURNING cardinality(pids)

-- :list_all
-- Lists a scene with all its parcels.
INSERT INTO {list} AS l (obsid, results, aoi, after_run)
SELECT %(obsid)s, %(results)s, %(aoi)s, {last_run}
{put_together}

-- :last_run
-- Attempts up to this one may have selected parcels as they were before.
coalesce((SELECT max(run_id) FROM {log}), 0)

-- :put_together
-- If the scene is listed already: as one entry about both, with a new number, so that a worker which is at it starts anew.
ON CONFLICT (obsid, results, aoi) DO UPDATE
SET entry = DEFAULT, after_run = EXCLUDED.after_run, listed_at = EXCLUDED.listed_at,
    pids = CASE WHEN l.pids IS NOT NULL AND EXCLUDED.pids IS NOT NULL
                THEN array(SELECT unnest(l.pids) UNION SELECT unnest(EXCLUDED.pids) ORDER BY 1) END,
    gone = array(SELECT unnest(l.gone) UNION SELECT unnest(EXCLUDED.gone) ORDER BY 1)
