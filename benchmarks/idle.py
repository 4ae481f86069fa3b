"""A worker that finds nothing to do: `python -m benchmarks.idle [--runs N] [--parcels N] [--against CHECKOUT]`.

Prints the process's wall and processor seconds; with `--against`, beside those of another checkout, in turn.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.stage import ROOT, command_environment, stage


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--parcels", type=int, default=10_000)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with the worker of another checkout")
    options = parser.parse_args()
    checkouts = [ROOT] if options.against is None else [ROOT, options.against.resolve()]
    with tempfile.TemporaryDirectory() as empty, stage("s2", Path(empty)) as scene:
        scene.put_parcels(options.parcels)
        scene.put_aoi()
        scene.write_config({})
        seconds: dict[Path, list[tuple[float, float]]] = {checkout: [] for checkout in checkouts}
        for number in range(options.runs + 1):
            for checkout in checkouts:
                taken = idle(scene.folder, checkout)
                if number:  # the first one makes the results table
                    seconds[checkout].append(taken)
        for name, taken_by in zip(("here", "there"), seconds.values(), strict=False):
            walls, processor = zip(*taken_by, strict=True)
            print(
                f"{name}: median {statistics.median(walls):.3f} s wall ({min(walls):.3f} to {max(walls):.3f}), "
                f"{statistics.median(processor):.3f} s processor, of {options.runs}"
            )
    return 0


def idle(folder: Path, checkout: Path, check: bool = False) -> tuple[float, float]:
    """Wall and processor seconds of one worker that finds nothing to do, or that only checks."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "extractors.s2", *(["--check"] if check else [])],
        cwd=folder,
        env=command_environment(checkout),
        check=not check,
        capture_output=True,
        text=True,
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ("ok indexes" if check else "No image") not in done.stdout:
        raise RuntimeError(done.stdout + done.stderr)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
