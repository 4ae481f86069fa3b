-- :candidates
-- Scenes with one of these statuses, of this configuration or by their reference, oldest first; and why the last attempt ended as
-- it did.
WITH aoi AS MATERIALIZED (
{areas}
)
SELECT d.id, btrim(d.card::text), {reference}, btrim(d.status::text), {reason}
FROM {catalogue} d
WHERE btrim(d.status::text) = ANY (%(statuses)s) AND (%(cards)s::text[] IS NULL OR btrim(d.card::text) = ANY (%(cards)s::text[]))
  AND CASE WHEN %(references)s::text[] IS NULL THEN {wanted} ELSE {reference} = ANY (%(references)s::text[]) END
ORDER BY d.obstime, d.id

-- :reason
-- Why the last attempt at scene `d` ended as it did.
(SELECT r.detail FROM {log} r WHERE r.obsid = d.id AND r.finished_at IS NOT NULL ORDER BY r.run_id DESC LIMIT 1)

-- :statuses
-- The statuses of the scenes with this reference.
SELECT DISTINCT btrim(d.status::text) FROM {catalogue} d
WHERE {reference} = ANY (%(references)s) AND (%(cards)s::text[] IS NULL OR btrim(d.card::text) = ANY (%(cards)s::text[]))

-- :set_back
-- Sets a scene back, if its status is still what it was.
UPDATE {catalogue} d SET status = 'ingested' WHERE id = %(obsid)s AND btrim(d.status::text) = %(status)s

-- :end_attempts
-- Ends what attempts of dead workers are open at a scene that is set back. Attempts are counted from the last one on that left
-- another status than `ingested`: so this one does not count, nor do those before it.
UPDATE {log} SET finished_at = clock_timestamp(), outcome = 'lost', status = 'failed',
                 detail = 'its worker died, or lost its database session, and the scene was set back by `operations retry`'
WHERE obsid = %(obsid)s AND finished_at IS NULL

-- :failed_entries
-- Entries of the list, for this area and results table, that have failed: number, CARD, scene, reference, why.
SELECT l.entry, btrim(d.card::text), d.id, {reference},
       (SELECT r.detail FROM {log} r WHERE r.obsid = l.obsid AND r.settings -> 'redo' = to_jsonb(l.entry)
        ORDER BY r.run_id DESC LIMIT 1)
FROM {list} l JOIN {catalogue} d ON d.id = l.obsid
WHERE l.results = %(results)s AND l.aoi = %(aoi)s AND {hopeless}
  AND (%(cards)s::text[] IS NULL OR btrim(d.card::text) = ANY (%(cards)s::text[]))
ORDER BY d.obstime, d.id

-- :renumber
-- Gives entries new numbers, by which their attempts are counted.
UPDATE {list} SET entry = DEFAULT WHERE entry = ANY (%(entries)s::bigint[])
