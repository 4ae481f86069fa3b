"""Image files: whether they are whole, what they say of themselves, and their pixels where parcels are."""
