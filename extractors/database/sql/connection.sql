-- :configure
-- Sets the session up; returns the names of the settings that this server knows.
SELECT wanted.name, set_config(known.name, wanted.value, false)
FROM unnest(%(names)s::text[], %(values)s::text[]) AS wanted (name, value)
JOIN pg_settings known ON lower(known.name) = lower(wanted.name)
