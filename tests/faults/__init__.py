"""Faults, one after the other: what a worker, the network, the store, a disk or another program can do to a season.

Every test ends with the same questions (`checker`): is every scene there once, whole, with the numbers of a run without
faults, and is nothing left lying about? Its docstring ends with the mechanism that it guards; with
`pytest --without THAT` the test fails.
"""
