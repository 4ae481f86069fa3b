-- :describe
-- Whether a role is a superuser, and whether it may log in; no row if there is none.
SELECT rolsuper, rolcanlogin FROM pg_roles WHERE rolname = %(role)s

-- :create
-- A role that may log in, and nothing else. The password comes as the server keeps it.
CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT PASSWORD %(password)s

-- :surroundings
-- The database's name, and the schema in which PostGIS is.
SELECT current_database(), n.nspname
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'postgis'

-- :grant
-- Gives a role a right to something.
GRANT {grant}
