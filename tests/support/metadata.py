"""MTD_MSIL2A.xml as tests compose it: the parts that matter, and some around them."""

from __future__ import annotations

from collections.abc import Mapping

BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


def metadata(
    baseline: str = "04.00",
    offsets: Mapping[int | str, int | float | str] | None = None,
    *,
    psd: int = 14,
    quantification: object = 10_000,
    indent: str = "\n  ",
) -> bytes:
    """offsets: by number of band, in this order; None: no list, as before 04.00."""
    uri = f"https://psd-{psd}.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd"
    listed = ""
    if offsets is not None:
        items = "".join(
            f'{indent}<BOA_ADD_OFFSET band_id="{number}">{offset}</BOA_ADD_OFFSET>'
            for number, offset in offsets.items()
        )
        listed = f"<BOA_ADD_OFFSET_VALUES_LIST>{items}</BOA_ADD_OFFSET_VALUES_LIST>"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<n1:Level-2A_User_Product xmlns:n1="{uri}">{indent}'
        f"<n1:General_Info><Product_Info><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE></Product_Info>{indent}"
        "<Product_Image_Characteristics><QUANTIFICATION_VALUES_LIST>"
        f'<BOA_QUANTIFICATION_VALUE unit="none">{quantification}</BOA_QUANTIFICATION_VALUE>'
        f'</QUANTIFICATION_VALUES_LIST>{indent}{listed}{indent}<PHYSICAL_GAINS bandId="0">4.1</PHYSICAL_GAINS>'
        "</Product_Image_Characteristics></n1:General_Info></n1:Level-2A_User_Product>\n"
    ).encode()


def all_bands(offset: int = -1000) -> dict[int | str, int | float | str]:
    """The same offset for every band."""
    return dict.fromkeys(range(len(BAND_IDS)), offset)
