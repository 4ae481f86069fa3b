-- :introduce
-- What other sessions see this one as.
SELECT set_config('application_name', %(application)s, false)

-- :any_area
-- Whether a row of the AOI table carries this name.
SELECT EXISTS (SELECT FROM {aois} WHERE {field}::text = %(name)s AND wkb_geometry IS NOT NULL)
