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

-- :create_aois
-- The areas of interest.
CREATE TABLE {aois} ({field} text NOT NULL, wkb_geometry geometry(Geometry, 4326))

-- :add_columns
-- Room for statistics that came later; NULL in the rows that are there.
ALTER TABLE {table} {columns}
