"""What several kinds of tests share: a database, a bucket and a working directory of their own, small scenes and
parcels to put there, the real commands started with them, and what rasterstats says about the results."""
