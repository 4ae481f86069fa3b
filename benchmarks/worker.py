"""A worker for some bands of a CARD only: `python -m benchmarks.worker s2 B04,SCL [the worker's own arguments]`."""

import importlib
import json
import sys
from pathlib import Path

from extractors.worker import main


def choose_bands(bands: list[str], config: Path = Path("db_config.json")) -> None:
    """Write the bands into the configuration in the working directory; only their files are downloaded."""
    document = json.loads(config.read_text())
    document.setdefault("extraction", {})["bands"] = bands
    config.write_text(json.dumps(document))


def peak_megabytes() -> float:
    """Highest resident memory of this process. (What the system tells a parent of its child's includes the parent's
    own, which the child has for a moment.)"""
    text = Path("/proc/self/status").read_text()
    (kilobytes,) = [line.split()[1] for line in text.splitlines() if line.startswith("VmHWM")]
    return int(kilobytes) / 1024


if __name__ == "__main__":
    chosen_card = importlib.import_module(f"extractors.{sys.argv[1]}").CARD
    choose_bands(sys.argv[2].split(","))
    code = main(chosen_card, sys.argv[3:])
    print(peak_megabytes())
    sys.exit(code)
