-- :exists
-- Whether somebody has made the table of places.
SELECT to_regclass(%(table)s) IS NOT NULL

-- :any
-- Whether it says anything.
SELECT EXISTS (SELECT FROM {places})

-- :of
-- What it says of a scene.
SELECT bucket, prefix FROM {places} WHERE obsid = %(obsid)s
