"""Where products are announced: what each source says of them, checked, in batches."""
