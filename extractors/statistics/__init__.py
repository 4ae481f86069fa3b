"""The statistics: polygons and pixels in, numbers out. No I/O."""
