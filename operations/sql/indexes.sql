-- :create
-- Makes an index while others write. If that is interrupted, an index stays that cannot be used.
CREATE INDEX CONCURRENTLY ON {table} {definition}

-- :analyze
-- Has the planner know what a table holds. Without, it may read all of the table, and no index, after a burst.
ANALYZE {table}

-- :create_at_once
-- Makes an index on a table in which nobody writes yet.
CREATE INDEX ON {table} {definition}

-- :drop
-- Removes what an interrupted attempt to make an index has left.
DROP INDEX CONCURRENTLY IF EXISTS {index}

-- :being_made
-- Server processes that are making indexes on a table just now.
SELECT pid FROM pg_stat_progress_create_index
WHERE relid = %(table)s::regclass
  AND datname = current_database()

-- :lock
-- Marks that somebody makes indexes in this database; false if somebody else does.
SELECT pg_try_advisory_lock(1128418565, 0)

-- :unlock
-- Lets others make indexes.
SELECT pg_advisory_unlock(1128418565, 0)
