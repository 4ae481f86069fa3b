"""`python -m operations index`."""

import argparse

from extractors.errors import ConfigurationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""


def run(options: argparse.Namespace) -> int:
    """Not written yet."""
    raise ConfigurationError(f"operations {options.verb} is not written yet")
