"""What a CARD is to a worker: all in which the three commands differ."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from extractors.errors import UnusableSceneError
from extractors.labels import BANDS, POLARISATIONS
from extractors.model import ImageFormat, Product, Scene

if TYPE_CHECKING:
    from extractors.config import Extraction
    from extractors.products.source import Source

# What stands for polarisations in a radar product's name, as in S1A_IW_GRDH_1SDV.
IN_NAMES = {"SV": ("VV",), "DV": ("VV", "VH"), "SH": ("HH",), "DH": ("HH", "HV")} | {
    name: (name,) for name in POLARISATIONS
}
# Longest text of a rejected reference that is shown.
SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Card:
    """One kind of Copernicus Analysis Ready Data.

    code: value of the catalogue's column `card`. reference: pattern of a product name. format: what its files are.
    find: looks the product up in the store (raises SceneNotFoundError). first_folder: of all keys of its products; a
    store that has nothing there is the wrong one. categorical: the band whose pixels are classes, if any.
    """

    code: str
    reference: re.Pattern[str]
    format: ImageFormat
    find: "Callable[[Scene, Source, Extraction], Product]"
    first_folder: str
    categorical: str | None = None

    def bands(self, reference: str) -> tuple[str, ...]:
        """The bands that a product's name promises, of those that its CARD can have."""
        return BANDS[self.code] if self.code == "s2" else polarisations(reference)

    def check_reference(self, reference: str) -> None:
        """Refuse what is not a product name of this CARD, before it becomes part of a key (UnusableSceneError)."""
        if not self.reference.fullmatch(reference):
            shown = ascii(reference[:SHOWN_CHARACTERS]) + ("..." if len(reference) > SHOWN_CHARACTERS else "")
            raise UnusableSceneError(
                f"the reference {shown} is not a product name of card {self.code}; fix it in the catalogue"
            )


def polarisations(reference: str) -> tuple[str, ...]:
    """The polarisations that a radar product's name promises; where it says nothing of them, VV and VH."""
    found = re.search(r"_\dS(SV|DV|SH|DH|VV|VH|HH|HV)_", reference)
    return IN_NAMES[found[1] if found else "DV"]
