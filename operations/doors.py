"""The one door to modules that are loaded when they are needed: a verb does not wait for the libraries of another."""

from functools import cache
from importlib import import_module
from types import ModuleType

from extractors.errors import ConfigurationError, one_line


@cache
def module(name: str) -> ModuleType:
    """The module of `operations` with this name."""
    try:
        return import_module(f"operations.{name}")
    except ImportError as error:
        raise ConfigurationError(f"a library cannot be loaded ({one_line(error)}); install the package anew") from error
