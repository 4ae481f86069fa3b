"""Where providers keep a product's files: what the keys of one product start with, as templates.

They are those of CREODIAS and the Copernicus Data Space, whether asked by S3 or mounted (`/eodata`), and of CODE-DE
(mounted as `/codede`). date: the day of observation. name: the product's name. collection: Sentinel-2 only, see below.
"""

SENTINEL_2 = "Sentinel-2/MSI/{collection}/{date:%Y/%m/%d}/{name}/"
# Reprocessed products (Collection 1) lie beside the others; the baseline in the name does not tell which.
SENTINEL_2_COLLECTIONS = ("L2A", "L2A_N0500")
# A Sentinel-2 product's list of its files; it has some 70 kB, and what is larger is not looked at.
MANIFEST, MOST_BYTES_OF_MANIFEST = "manifest.safe", 2_000_000
BACKSCATTER = "Sentinel-1/SAR/CARD-BS/{date:%Y/%m/%d}/{name}/{name}.data/"
COHERENCE_6 = "Sentinel-1/SAR/CARD-COH6/{date:%Y/%m/%d}/{name}/"
COHERENCE_12 = "Sentinel-1/SAR/CARD-COH12/{date:%Y/%m/%d}/{name}/"


def first_folder(template: str) -> str:
    """The folder that all keys of a template begin with."""
    return template.partition("/")[0] + "/"
