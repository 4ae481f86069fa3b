"""The embedded demonstration: throw-away servers, synthetic products of all three CARDs, made-up parcels.

`servers`, `products` and `tables` also serve the tests.
"""
