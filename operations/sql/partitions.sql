-- :lock
-- Keeps everybody else out of a table until the transaction ends.
LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE

-- :any_row
-- Whether a table has rows.
SELECT EXISTS (SELECT FROM {table})

-- :is_new
-- Whether a table is as it was made: without rows, rights of others, triggers, publications, and views of it.
SELECT relkind = 'r' AND relacl IS NULL AND NOT relhastriggers AND NOT EXISTS (SELECT FROM {table})
       AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL)
       AND NOT EXISTS (SELECT FROM pg_publication_rel p WHERE p.prrelid = c.oid)
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refobjid = c.oid AND d.classid = 'pg_rewrite'::regclass)
FROM pg_class c WHERE c.oid = %(table)s::regclass

-- :rename
-- Makes room for a table of the same name.
ALTER TABLE {table} RENAME TO {other}

-- :create
-- A table with the columns of another one, in partitions by scene.
CREATE TABLE {table} (LIKE {like} INCLUDING DEFAULTS INCLUDING COMMENTS) PARTITION BY RANGE ({obsid})

-- :drop
-- Removes the empty table that it replaces.
DROP TABLE {table}

-- :scenes
-- The least and the greatest number of a scene.
SELECT coalesce(min(id), 1)::bigint, coalesce(max(id), 0)::bigint FROM {catalogue}

-- :create_one
-- A table that can become a partition.
CREATE TABLE {partition} (LIKE {table} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING STORAGE INCLUDING CONSTRAINTS INCLUDING COMMENTS)

-- :owner
-- The owner of a table, and whether it is another one than whoever makes its partitions.
SELECT pg_get_userbyid(relowner), relowner <> current_user::regrole FROM pg_class WHERE oid = %(table)s::regclass

-- :give
-- The partition belongs to whom the table belongs, who is to change and index it as well.
ALTER TABLE {partition} OWNER TO {owner}

-- :attach
-- The partition for the scenes from one number up to, but not including, another.
ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM (%(first)s) TO (%(after)s)

-- :tables
-- Tables of results in partitions, their numbers (a name is of no use without rights in its schema), and whether we may make
-- more of these.
SELECT n.nspname, c.relname, c.oid::text,
       pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'p' AND obj_description(c.oid, 'pg_class') = %(comment)s
ORDER BY 1, 2

-- :bounds
-- The partitions of a table: schema, name, and the scenes from and up to which they are, NULL if they are not by scene.
SELECT n.nspname, c.relname, bound[1]::bigint, bound[2]::bigint
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid),
                               '^FOR VALUES FROM \(''?(-?[0-9]+)''?\) TO \(''?(-?[0-9]+)''?\)$') bound ON true
WHERE i.inhparent = %(table)s::regclass
ORDER BY 3, 2

-- :is_clustered
-- Whether a table has been put into the order of one of its indexes.
SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = %(table)s::regclass AND indisclustered AND indisvalid)

-- :unfinished
-- How many scenes with numbers from one up to, but not including, another are still to be done.
SELECT count(*) FROM {catalogue}
WHERE id >= %(first)s AND id < %(after)s AND btrim(status::text) IN ('ingested', 'inprogress')

-- :cluster
-- Puts the rows of a partition into the order of an index. Nobody can read it meanwhile.
CLUSTER {partition} USING {index}
