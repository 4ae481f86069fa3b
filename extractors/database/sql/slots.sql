-- :take
-- One of the download slots that the workers of this database share; false if another has it. In pg_locks: classid
-- 1128418562, objid the slot.
SELECT pg_try_advisory_lock(1128418562, %(slot)s)

-- :give
-- Free the slot for others.
SELECT pg_advisory_unlock(1128418562, %(slot)s)
