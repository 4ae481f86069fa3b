"""A worker that finds nothing to do: `python -m benchmarks.idle [--runs N]`. Prints the process's wall seconds."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.stage import command_environment, stage


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty, stage("s2", Path(empty)) as scene:
        scene.put_parcels(10_000)
        scene.put_aoi()
        scene.write_config({})
        walls = []
        for number in range(options.runs + 1):
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "extractors.s2"],
                cwd=scene.folder,
                env=command_environment(),
                check=True,
                capture_output=True,
                text=True,
            )
            if number:  # the first one makes the results table
                walls.append(time.perf_counter() - started)
        print(done.stdout.strip())
        print(f"median {statistics.median(walls):.2f} s of {options.runs}, {min(walls):.2f} to {max(walls):.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
