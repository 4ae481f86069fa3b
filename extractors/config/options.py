"""A worker's command line, once it has been read."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """A worker's command line, completed from the environment."""

    db_config: Path
    s3_config: Path
    data_dir: Path
    everything: bool
    watch_seconds: float | None
    scene: str | None
    engine: str | None
    adopt_foreign: bool
    verbose: bool
    log_format: str
    check: bool = False
    accept_mixed: bool = False
    redo: bool = False

    @property
    def burst(self) -> bool:
        """Whether to extract everything that is there, and then end."""
        return self.everything and self.watch_seconds is None and self.scene is None
