-- :wide
-- What is known of a parcel in a scene, side by side: pixels that counted for the first band of the CARD, the share of the
-- parcel's pixels that counted, the share of its pixels that are clouds, their shadows or snow, and the mean of each band and
-- index. `of_rows`: which rows of both tables are read at all.
SELECT CASE WHEN s.pid BETWEEN 0 AND 2147483647 THEN s.pid::bigint << 32 | (s.obsid::bigint & 4294967295) END AS key,
       s.pid,
       s.obsid,
       btrim(c.card::text) AS card,
       {obstime} AS obstime,
       btrim(c.reference::text) AS reference,
       {valid_pixels} AS valid_pixels,
       s.valid_share,
       {cloud_share} AS cloud_share{means}
FROM (SELECT pid, obsid, {valid_share} AS valid_share{pivot}
      FROM {results} WHERE {of_rows} GROUP BY pid, obsid) s
JOIN {catalogue} c ON c.id = s.obsid
{histograms}

-- :histograms
-- The pixels of the same parcel and scene by class of SCL, if there are any.
LEFT JOIN (SELECT pid, obsid, hist FROM {hists} WHERE {of_rows}) h ON h.pid = s.pid AND h.obsid = s.obsid

-- :cloud_share
-- The share of the pixels of a histogram `h` that are clouds (8, 9), thin ones (10), shadows of clouds (3), or snow (11).
(SELECT coalesce(sum(pixels::bigint) FILTER (WHERE class IN ('3', '8', '9', '10', '11')), 0)::float8
        / nullif(sum(pixels::bigint), 0)
 FROM json_each_text(h.hist::json) one (class, pixels) WHERE class <> '0')

-- :observations
-- Of the scenes of one pass over a parcel, the one with most pixels that counted for the first band: tiles overlap, products
-- are made anew, slices follow one another. One pass is one datatake of a platform (s2) or one absolute orbit (bs), if the
-- product's name says so; else what follows within two minutes.
SELECT DISTINCT ON (pid, card, pass, part) {columns}
FROM (SELECT *, count(*) FILTER (WHERE pass IS NULL AND since > interval '2 minutes')
                    OVER (PARTITION BY pid, card, pass ORDER BY obstime, obsid) AS part
      FROM (SELECT *, obstime - lag(obstime) OVER (PARTITION BY pid, card, pass ORDER BY obstime, obsid) AS since
            FROM (SELECT *, {pass} AS pass FROM ({wide}) w) named) following) parted
ORDER BY pid, card, pass, part, valid_pixels DESC NULLS LAST, obsid

-- :pass
-- The pass that a product's name tells: platform, and start of the datatake or absolute orbit. Without patterns, which take
-- longer than all the rest.
CASE WHEN card = 's2' AND starts_with(reference, 'S2') AND substr(reference, 4, 8) = '_MSIL2A_' THEN left(reference, 26)
     WHEN card = 'bs' AND starts_with(reference, 'S1') AND substr(reference, 7, 4) = '_GRD'
         THEN left(reference, 3) || nullif(split_part(reference, '_', 7), '') END

-- :progress
-- Scenes by CARD and month of observation, and how many of them have which status.
SELECT row_number() OVER (ORDER BY card, month) AS key, *
FROM (SELECT btrim(card::text) AS card, date_trunc('month', {obstime})::date AS month, count(*) AS scenes{statuses},
             count(*) FILTER (WHERE status::text <> ALL (ARRAY[{known}])) AS others
      FROM {catalogue} c GROUP BY 1, 2) months

-- :find
-- A relation in a schema: its kind, and the comment on it; no row if there is none.
SELECT c.relkind, obj_description(c.oid, 'pg_class')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s

-- :dependents
-- Views of others that are made of this one.
SELECT DISTINCT r.ev_class::regclass::text
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(view)s::regclass
  AND r.ev_class <> %(view)s::regclass

-- :drop
-- Removes a view that was made here.
DROP VIEW IF EXISTS {view}

-- :create
-- Makes a view, which is not there.
CREATE VIEW {view} AS {query}

-- :comment
-- Says who made it, and from what.
COMMENT ON VIEW {view} IS {comment}

-- :settings
-- The settings that the numbers in a table of results have been made with, by CARD, as the log knows them. Each half has an index
-- of its own.
SELECT card, settings FROM {log}
WHERE results = %(results)s AND outcome = 'extracted' AND jsonb_typeof(settings -> 'sources') = 'object'
UNION
SELECT card, settings - 'redo' FROM {log}
WHERE results = %(results)s AND outcome = 'redone' AND jsonb_typeof(settings -> 'sources') = 'object'
