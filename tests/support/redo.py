"""What tests of `operations redo` and of workers with `--redo` look at, and how they change parcels."""

from __future__ import annotations

from psycopg2 import sql
from shapely.geometry.base import BaseGeometry

from tests.support.scenes import Scene, Signatures
from tests.support.workspace import Workspace


def everything(workspace: Workspace) -> dict[tuple[int, int, str], str]:
    """All rows of the results table, with where they lie and which transaction has written them."""
    rows = workspace.query(
        "SELECT obsid, pid, trim(band), concat(tableoid, ' ', ctid, ' ', xmin, ' ', s.*::text) FROM signatures s"
    )
    return {(obsid, pid, band): text for obsid, pid, band, text in rows}


def content(workspace: Workspace, *tables: str) -> dict[str, list[str]]:
    """All rows of tables, but for where they lie."""
    found = {}
    for table in tables:
        rows = workspace.query(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table)))
        found[table] = sorted(text for (text,) in rows)
    return found


def listed(workspace: Workspace) -> dict[int, list[int] | None]:
    """The list: scene -> parcels."""
    if not workspace.one("SELECT to_regclass('redo_list') IS NOT NULL"):
        return {}
    return dict(workspace.query("SELECT obsid, pids FROM redo_list"))


def outcomes(workspace: Workspace, scene: Scene) -> list[str | None]:
    return [attempt["outcome"] for attempt in workspace.log(scene)]


def corrected(workspace: Workspace, *pids: int) -> str:
    """A table that names these parcels."""
    workspace.query("DROP TABLE IF EXISTS corrected")
    workspace.query("CREATE TABLE corrected AS SELECT unnest(%s::integer[]) AS pid", list(pids))
    return "corrected"


def move(workspace: Workspace, pid: int, geometry: BaseGeometry) -> None:
    workspace.query(
        "UPDATE parcels SET wkb_geometry = ST_Multi(ST_GeomFromText(%s, %s)) WHERE ogc_fid = %s",
        *(geometry.wkt, workspace.parcel_srid, pid),
    )


def of(pids: set[int], signatures: Signatures) -> Signatures:
    return {key: numbers for key, numbers in signatures.items() if key[0] in pids}
