-- :create_extension
-- PostGIS, in the schema that comes first.
CREATE EXTENSION IF NOT EXISTS postgis

-- :create_catalogue
-- The catalogue of scenes in its established form: other programs insert rows into it. obstime is UTC.
CREATE TABLE {catalogue} (
    id serial PRIMARY KEY,
    obstime timestamp without time zone NOT NULL,
    reference varchar(120) NOT NULL UNIQUE,
    sensor char(2) NOT NULL,
    card char(2) NOT NULL,
    status varchar(12) NOT NULL DEFAULT 'ingested',
    footprint geometry(Geometry, 4326)
)

-- :create_places
-- Where products lie, if that is known.
CREATE TABLE {places} (obsid integer PRIMARY KEY, bucket text, prefix text)

-- :status_writers
-- The roles that may set statuses in the catalogue: workers.
SELECT DISTINCT pg_get_userbyid(a.grantee)
FROM pg_attribute c, aclexplode(c.attacl) a
WHERE c.attrelid = %(catalogue)s::regclass AND c.attname = 'status' AND a.privilege_type = 'UPDATE' AND a.grantee <> 0
UNION
SELECT pg_get_userbyid(a.grantee)
FROM pg_class t, aclexplode(t.relacl) a
WHERE t.oid = %(catalogue)s::regclass AND a.privilege_type = 'UPDATE' AND a.grantee NOT IN (0, t.relowner)

-- :grant_places
-- Lets a worker read where products lie.
GRANT SELECT (obsid, bucket, prefix) ON {places} TO {role}

-- :create_aois
-- The areas of interest.
CREATE TABLE {aois} ({field} text NOT NULL, wkb_geometry geometry(Geometry, 4326))

-- :add_columns
-- Room for statistics that came later; NULL in the rows that are there.
ALTER TABLE {table} {columns}

-- :hold_creation
-- Nobody else makes tables or views until the session lets them, whatever transactions end meanwhile.
SELECT pg_advisory_lock(1128418561, 0)

-- :allow_creation
-- Others may make tables again.
SELECT pg_advisory_unlock(1128418561, 0)
