-- :configure
-- Sets the session up; returns the names of the settings that this server knows.
SELECT wanted.name, set_config(known.name, wanted.value, false)
FROM unnest(%(names)s::text[], %(values)s::text[]) AS wanted (name, value)
JOIN pg_settings known ON lower(known.name) = lower(wanted.name)

-- :take_slot
-- One of the places that the workers of this database share for downloading; false if another has it.
SELECT pg_try_advisory_lock(1128418562, %(slot)s)

-- :give_slot
-- Free the place for others.
SELECT pg_advisory_unlock(1128418562, %(slot)s)
