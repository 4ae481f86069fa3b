"""Products: what a CARD is, where providers keep its files, and the store itself."""
