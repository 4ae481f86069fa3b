-- :delete_scene
-- Removes what an earlier extraction of a scene has written.
DELETE FROM {table} WHERE obsid = %(obsid)s

-- :copy
-- Rows come in by column name, so the order of the table's columns is free.
COPY {table} ({columns}) FROM STDIN WITH (FORMAT {form})
