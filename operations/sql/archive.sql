-- :endure
-- Until the transaction ends, it may be idle, and a statement may take, as long as others read the same.
SELECT set_config('idle_in_transaction_session_timeout', '0', true), set_config('statement_timeout', '0', true),
       set_config('lock_timeout', '0', true)

-- :snapshot
-- A name by which other sessions can see what this transaction sees.
SELECT pg_export_snapshot()

-- :form
-- Until the transaction ends, values become texts that are as long as it takes to be exact, and of one form.
SELECT set_config('extra_float_digits', '3', true), set_config('DateStyle', 'ISO', true),
       set_config('IntervalStyle', 'postgres', true), set_config('bytea_output', 'hex', true)

-- :about
-- The database: when its transaction began, name, number and version of the server, encoding, collation and character types.
SELECT now(), d.datname, current_setting('server_version_num')::integer / 10000, current_setting('server_version'),
       pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, d.oid::bigint
FROM pg_database d WHERE d.datname = current_database()

-- :of_log
-- Tables that attempts have written into, of other configurations as well: names as the log has them.
SELECT DISTINCT named.name
FROM {log} l
CROSS JOIN LATERAL (
    SELECT l.results AS name
    UNION ALL SELECT other.value FROM jsonb_each_text(l.settings -> 'tables') other) named
WHERE named.name IS NOT NULL

-- :relations
-- These tables and whatever they cannot do without: partitions, tables that they inherit from or refer to, what views
-- read, sequences of defaults that no column owns. Extensions bring their own. With kind, whether we may read them, and
-- the bytes they take, without indexes.
WITH RECURSIVE
edges AS (
    SELECT inhparent AS one, inhrelid AS other FROM pg_inherits
    UNION ALL SELECT inhrelid, inhparent FROM pg_inherits
    UNION ALL SELECT conrelid, confrelid FROM pg_constraint WHERE contype = 'f'
    UNION ALL SELECT a.adrelid, d.refobjid FROM pg_attrdef a
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid AND d.refclassid = 'pg_class'::regclass
    UNION ALL SELECT r.ev_class, d.refobjid FROM pg_rewrite r
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass),
wanted AS (
    SELECT oid FROM pg_class WHERE oid = ANY (%(tables)s::regclass[])
    UNION SELECT other FROM edges JOIN wanted ON wanted.oid = one)
SELECT n.nspname, c.relname, c.relkind::text, has_table_privilege(c.oid, 'SELECT'), pg_table_size(c.oid)
FROM wanted JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                    AND (d.deptype = 'e' OR c.relkind = 'S' AND d.deptype IN ('a', 'i')
                                            AND d.refobjid IN (SELECT oid FROM wanted)))
ORDER BY n.nspname, c.relname

-- :lock
-- Until the transaction ends, keeps tables from being dropped, emptied and changed, and nobody from reading and writing.
LOCK TABLE {tables} IN ACCESS SHARE MODE

-- :needs
-- What these relations need besides one another, as their columns, defaults, constraints, indexes, triggers and rules say:
-- extensions, each with its schema, PostGIS in any case; and, without a schema, what is neither an extension's nor
-- PostgreSQL's own (those have numbers below 16384). `part`: what is in an archive with a relation.
WITH RECURSIVE
part AS (
    SELECT 'pg_class'::regclass::oid AS classid, oid AS objid FROM pg_class WHERE oid = ANY (%(tables)s::regclass[])
    UNION
    SELECT d.classid, d.objid FROM pg_depend d JOIN part ON part.classid = d.refclassid AND part.objid = d.refobjid
    WHERE d.deptype IN ('a', 'i', 'P', 'S')
      AND d.classid IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_class'::regclass, 'pg_trigger'::regclass,
                        'pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_type'::regclass)),
need AS (
    SELECT d.refclassid AS classid, d.refobjid AS objid FROM pg_depend d JOIN part USING (classid, objid)
    WHERE d.refclassid <> 'pg_namespace'::regclass AND d.deptype <> 'x'
      AND NOT EXISTS (SELECT FROM part own WHERE own.classid = d.refclassid AND own.objid = d.refobjid)
    -- An index of a table, a type of arrays: what these belong to.
    UNION
    SELECT d.refclassid, d.refobjid FROM pg_depend d JOIN need USING (classid, objid) WHERE d.deptype IN ('a', 'i', 'P', 'S'))
SELECT DISTINCT coalesce(e.extname, what.type || ' ' || what.identity), n.nspname
FROM need
LEFT JOIN pg_depend m ON m.classid = need.classid AND m.objid = need.objid AND m.deptype = 'e'
LEFT JOIN pg_extension e ON e.oid = m.refobjid OR need.classid = 'pg_extension'::regclass AND e.oid = need.objid
LEFT JOIN pg_namespace n ON n.oid = e.extnamespace
CROSS JOIN pg_identify_object(need.classid, need.objid, 0) what
WHERE e.oid IS NOT NULL
   OR need.objid >= 16384
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = need.classid AND d.objid = need.objid AND d.deptype IN ('a', 'i', 'P', 'S'))
UNION
SELECT e.extname, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'postgis'
ORDER BY 1

-- :exists
-- Whether there is a table with this name.
SELECT to_regclass(%(table)s) IS NOT NULL

-- :sum
-- How many rows a table holds itself, and a number that any change of a row changes, whatever the order of the rows.
SELECT count(*), coalesce(sum(hashtextextended(ROW(r.*)::text COLLATE "C", 0)), 0)::text FROM ONLY {table} r

-- :may_create
-- Whether we may make databases.
SELECT rolcreatedb OR rolsuper, quote_ident(rolname) FROM pg_roles WHERE rolname = current_user

-- :alone
-- Marks that a database is being made here from an archive; false if somebody else does.
SELECT pg_try_advisory_lock(1128418566, 0)

-- :create_database
-- Makes an empty database.
CREATE DATABASE {database} TEMPLATE template0 ENCODING %(encoding)s LC_COLLATE %(collate)s LC_CTYPE %(ctype)s

-- :drop_database
-- Removes it, whoever is connected with it.
DROP DATABASE IF EXISTS {database} WITH (FORCE)

-- :create_schema
-- Makes a schema, unless it is there.
CREATE SCHEMA IF NOT EXISTS {schema}

-- :create_extension
-- Makes an extension, and those that it needs.
CREATE EXTENSION IF NOT EXISTS {extension} SCHEMA {schema} CASCADE

-- :end
-- Ends the sessions of a tool that we have started.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = %(application)s AND datname = current_database()
