"""The database: one session, its tables, and everything that is read from and written to them."""
