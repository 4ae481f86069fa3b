-- :take
-- One of the download slots that the workers of this database share; false if another has it. In pg_locks: classid
-- 1128418562, objid the slot.
SELECT pg_try_advisory_lock(1128418562, %(slot)s)

-- :strangers
-- Sessions that hold a download slot without being at a scene, as every worker is that downloads: user, address, process.
SELECT coalesce(quote_ident(a.usename), 'somebody'), coalesce(host(a.client_addr), 'an address that is not shown'), l.pid
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = 1128418562
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND NOT EXISTS (SELECT FROM pg_locks scene
                  WHERE scene.locktype = 'advisory' AND scene.granted AND scene.objsubid = 2
                    AND scene.classid = 1128418561 AND scene.pid = l.pid)

-- :give
-- Free the slot for others.
SELECT pg_advisory_unlock(1128418562, %(slot)s)
