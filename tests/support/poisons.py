"""Bad scenes: rows of the catalogue that cannot be used, and objects that the store refuses."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from tests.faults.spoilt_store import SpoiltStore
from tests.support.scenes import Scene
from tests.support.workspace import Workspace


def crossing(vertices: int) -> str:
    """A polygon all of whose edges cross one another."""
    numbers = random.Random(1)
    corners = [(14.9 + 0.2 * numbers.random(), 45.9 + 0.2 * numbers.random()) for _ in range(vertices)]
    return "POLYGON((" + ", ".join(f"{x} {y}" for x, y in [*corners, corners[0]]) + "))"


def comb(teeth: int) -> str:
    """A valid polygon with edges as long as itself."""
    up = [(14.9 + 0.2 * i / teeth, 46.1 if i % 2 else 45.91) for i in range(teeth + 1)]
    return "POLYGON((" + ", ".join(f"{x} {y}" for x, y in [*up, (15.1, 45.9), (14.9, 45.9), up[0]]) + "))"


def circle(vertices: int) -> str:
    """A valid polygon."""
    angles = [2 * math.pi * i / vertices for i in range(vertices)]
    corners = [(15 + 0.1 * math.cos(angle), 46 + 0.1 * math.sin(angle)) for angle in angles]
    return "POLYGON((" + ", ".join(f"{x} {y}" for x, y in [*corners, corners[0]]) + "))"


def footprint(wkt: str, srid: int = 4326) -> Callable[[Workspace, Scene], None]:
    def poison(workspace: Workspace, scene: Scene) -> None:
        change = "UPDATE dias_catalogue SET footprint = ST_GeomFromText(%s, %s) WHERE id = %s"
        workspace.query(change, wkt, srid, scene.id)

    return poison


def no_reference(workspace: Workspace, scene: Scene) -> None:
    workspace.query("UPDATE dias_catalogue SET reference = NULL WHERE id = %s", scene.id)


ROWS: dict[str, tuple[Callable[[Workspace, Scene], None], str]] = {
    "a footprint that crosses itself everywhere": (footprint(crossing(800)), "801"),
    "no reference": (no_reference, "reference"),
    "a footprint of another SRID": (footprint("POLYGON((5e5 5e6, 6e5 5e6, 6e5 6e6, 5e5 5e6))", 32633), "32633"),
    "a footprint of an unknown SRID": (footprint("POLYGON((14 45, 16 45, 16 47, 14 45))", 0), "SRID 0"),
    "a polyhedral footprint": (
        footprint("POLYHEDRALSURFACE Z(((14 45 0, 16 45 0, 16 47 0, 14 47 0, 14 45 0)))"),
        "POLYHEDRALSURFACE",
    ),
    "a footprint that is a collection with a solid": (
        footprint("GEOMETRYCOLLECTION Z(TIN Z(((14 45 0, 16 45 0, 16 47 0, 14 45 0))))"),
        "collection",
    ),
    "an empty footprint": (footprint("POLYGON EMPTY"), "empty"),
    "a footprint without area": (footprint("POLYGON((15 46.05, 15 46.05, 15 46.05, 15 46.05))"), "area"),
    "a footprint with a corner that is no number": (footprint("POLYGON((14 45, 14 NaN, 16 45, 16 47, 14 45))"), "numb"),
    "a footprint of very many vertices": (footprint(circle(10_000)), "10001"),
    "a footprint with curves that cross": (
        footprint("CURVEPOLYGON(COMPOUNDCURVE(CIRCULARSTRING(14 45, 16 47, 16 45), (16 45, 14 47, 14 45)))"),
        "curves",
    ),
}


def refused(status: int, code: str) -> Callable[[SpoiltStore, str], None]:
    def poison(spoilt: SpoiltStore, day: str) -> None:
        spoilt.error(f"{day}.*_B08_10m", status, code)

    return poison


def no_listing(spoilt: SpoiltStore, day: str) -> None:
    spoilt.error(f"prefix=[^&]*{day}", 403, "AccessDenied")


def enormous(spoilt: SpoiltStore, day: str) -> None:
    spoilt.announce(f"prefix=[^&]*{day}", "_B08_10m", 10**15)


def sent_on(spoilt: SpoiltStore, day: str) -> None:
    spoilt.answer(f"{day}.*_B08_10m", 301)


OBJECTS: dict[str, Callable[[SpoiltStore, str], None]] = {
    "403 for ever": refused(403, "AccessDenied"),
    "400 for ever": refused(400, "SomethingElse"),
    "500 for ever": refused(500, "InternalError"),
    "other keys are wanted": refused(403, "InvalidAccessKeyId"),
    "no such bucket": refused(404, "NoSuchBucket"),
    "another region is wanted": refused(400, "AuthorizationHeaderMalformed"),
    "a redirect": sent_on,
    "larger than any disk": enormous,
    "a listing that is refused": no_listing,
}
