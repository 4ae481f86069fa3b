"""Words that several rooms share."""

# The statistics of a parcel, in the order in which tables of them have their columns.
STATISTICS = ("count", "mean", "std", "min", "max", "p25", "p50", "p75")
