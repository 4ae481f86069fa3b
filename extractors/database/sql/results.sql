-- :delete_scene
-- Removes all that an earlier extraction of a scene has written.
DELETE FROM {table} WHERE obsid = %(obsid)s

-- :delete_parcels
-- Removes a scene's rows of some parcels.
DELETE FROM {table} WHERE obsid = %(obsid)s AND pid = ANY (%(pids)s::bigint[])

-- :any_of_scene
-- Whether there is any row of a scene.
SELECT EXISTS (SELECT FROM {table} WHERE obsid = %(obsid)s)

-- :copy
-- Rows come in by column name, so the order of the table's columns is free.
COPY {table} ({columns}) FROM STDIN WITH (FORMAT {form})
