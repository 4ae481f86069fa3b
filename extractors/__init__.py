"""Per-parcel statistics of Sentinel scenes: one worker takes one scene from `ingested` to `extracted`."""

__version__ = "0.1.0"
