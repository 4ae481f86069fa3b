"""Image files: their integrity, what they say of themselves, and their pixels where parcels are."""
