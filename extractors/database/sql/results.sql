-- :use_indexes
-- Until the transaction ends, rows are looked up through an index if there is any: of a table with 100 million rows the
-- planner would rather read all than use a BRIN index.
SET LOCAL enable_seqscan = off

-- :delete_parcels
-- Removes a scene's rows of some parcels. The scene's rows are read and compared with a hash of the ids; `+ 0` keeps an
-- index on pid from being searched for every single parcel, which takes a hundred times as long.
DELETE FROM {table} WHERE obsid = %(obsid)s AND pid + 0 IN (SELECT DISTINCT unnest(%(pids)s::bigint[]))

-- :count_parcels
-- How many rows of a scene are of some parcels; in the same way.
SELECT count(*) FROM {table} WHERE obsid = %(obsid)s AND pid + 0 IN (SELECT DISTINCT unnest(%(pids)s::bigint[]))

-- :count_scene
-- How many rows of a scene there are.
SELECT count(*) FROM {table} WHERE obsid = %(obsid)s

-- :any_of_scene
-- Whether there is any row of a scene.
SELECT EXISTS (SELECT FROM {table} WHERE obsid = %(obsid)s)

-- :copy
-- Rows come in by column name, so the order of the table's columns is free.
COPY {table} ({columns}) FROM STDIN WITH (FORMAT {form})

-- :begin_trial
-- What follows is undone.
SAVEPOINT trial

-- :try
-- Inserts one row; to be undone.
INSERT INTO {table} ({columns}) VALUES ({values})

-- :end_trial
-- Undoes all since then.
ROLLBACK TO SAVEPOINT trial

-- :constrained
-- The columns that a constraint is about.
SELECT a.attname
FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
WHERE k.conrelid = %(table)s::regclass AND k.conname = %(constraint)s
