-- :delete_scene
-- Removes what an earlier extraction of a scene has written for the parcels that are written again.
DELETE FROM {table} WHERE obsid = %(obsid)s AND pid = ANY (%(pids)s::bigint[])

-- :any_of_scene
-- Whether there is any row of a scene.
SELECT EXISTS (SELECT FROM {table} WHERE obsid = %(obsid)s)

-- :copy
-- Rows come in by column name, so the order of the table's columns is free.
COPY {table} ({columns}) FROM STDIN WITH (FORMAT {form})
