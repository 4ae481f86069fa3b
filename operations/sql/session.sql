-- :introduce
-- What other sessions see this one as.
SELECT set_config('application_name', %(application)s, false)
