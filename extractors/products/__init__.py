"""Products: what a CARD is, where stores keep its files, and the store itself."""
