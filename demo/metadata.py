"""What a Sentinel-2 product says of itself, MTD_MSIL2A.xml: the parts that matter, and some around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


def metadata(
    baseline: str = "04.00",
    offsets: Mapping[int | str, int | float | str] | None = None,
    *,
    psd: int = 14,
    quantification: object = 10_000,
    indent: str = "\n  ",
    start: str = "2020-04-01T10:00:31.024Z",
    outline: Sequence[tuple[float, float]] = (),
) -> bytes:
    """offsets: by number of band, in this order; None: no list, as before 04.00. start: of observation. outline:
    longitude and latitude of its corners; the file has them the other way round."""
    uri = f"https://psd-{psd}.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd"
    listed = ""
    if offsets is not None:
        items = "".join(
            f'{indent}<BOA_ADD_OFFSET band_id="{number}">{offset}</BOA_ADD_OFFSET>'
            for number, offset in offsets.items()
        )
        listed = f"<BOA_ADD_OFFSET_VALUES_LIST>{items}</BOA_ADD_OFFSET_VALUES_LIST>"
    positions = "".join(f"{latitude:.9f} {longitude:.9f} " for longitude, latitude in outline)
    geometry = (
        f"<n1:Geometric_Info><Product_Footprint><Product_Footprint><Global_Footprint>{indent}<EXT_POS_LIST>{positions}"
        "</EXT_POS_LIST></Global_Footprint></Product_Footprint></Product_Footprint></n1:Geometric_Info>"
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<n1:Level-2A_User_Product xmlns:n1="{uri}">{indent}'
        f"<n1:General_Info><Product_Info><PRODUCT_START_TIME>{start}</PRODUCT_START_TIME><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE></Product_Info>{indent}"
        "<Product_Image_Characteristics><QUANTIFICATION_VALUES_LIST>"
        f'<BOA_QUANTIFICATION_VALUE unit="none">{quantification}</BOA_QUANTIFICATION_VALUE>'
        f'</QUANTIFICATION_VALUES_LIST>{indent}{listed}{indent}<PHYSICAL_GAINS bandId="0">4.1</PHYSICAL_GAINS>'
        f"</Product_Image_Characteristics></n1:General_Info>{geometry if outline else ''}</n1:Level-2A_User_Product>\n"
    ).encode()


def all_bands(offset: int = -1000) -> dict[int | str, int | float | str]:
    """The same offset for every band."""
    return dict.fromkeys(range(len(BAND_IDS)), offset)
