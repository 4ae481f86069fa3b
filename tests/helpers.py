"""Where everything was before `tests.support`; goes as soon as nothing imports it any more."""

from tests.support.bands import open_bands
from tests.support.environment import ROOT, environment
from tests.support.ground import squares
from tests.support.running import wait_until
from tests.support.workspace import Workspace

__all__ = ["ROOT", "Workspace", "environment", "open_bands", "squares", "wait_until"]
