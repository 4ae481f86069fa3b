"""How many cores and how much memory this process may use, and keeping native libraries from taking more cores.

In a container all of the host's cores and memory can be seen, but the cgroup may allow only a part of them.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Libraries that would start a thread per core of the host, each in every thread of ours: OpenBLAS and OpenMP within
# numpy and GDAL, GDAL's own, OpenJPEG's. The cores are kept busy by our own pool. With 1, OpenJPEG would hand all its
# work to one thread beside the caller, which waits (a Sentinel-2 scene took 4 % longer); with 0 the caller does it.
THREAD_VARIABLES = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "GDAL_NUM_THREADS": "1",
    "OPJ_NUM_THREADS": "0",
}


@dataclass(frozen=True)
class _Mount:
    """A cgroup file system: where it is, which cgroup is at its root, its type, and its options (v1: controllers)."""

    place: str
    top: str
    kind: str
    options: frozenset[str]


def keep_libraries_single_threaded() -> None:
    """To be called before numpy is imported; what the environment says already holds."""
    for name, threads in THREAD_VARIABLES.items():
        os.environ.setdefault(name, threads)


def usable_cores(root: Path = Path("/")) -> int:
    """The cores that the scheduler gives this process, or fewer if its cgroups' quota is less; at least 1."""
    return max(1, min([len(os.sched_getaffinity(0)), *(math.ceil(quota) for quota in _quotas(root))]))


def usable_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may use: the machine's memory, or less if its cgroups are limited; None: unknown."""
    words = _text(root / "proc/meminfo").split()
    known = [int(words[1]) * 1024] if words[:1] == ["MemTotal:"] and words[1].isdecimal() else []
    for version, folder in _cgroups(root, "memory"):
        text = _text(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")).strip()
        known += [int(text)] if text.isdecimal() else []
    return min(known, default=None)


def _quotas(root: Path) -> Iterator[float]:
    """The cores' worth of time that each of this process's cgroups is allowed, as far as it is limited."""
    for version, folder in _cgroups(root, "cpu"):
        if version == 2:
            yield from _quota(_text(folder / "cpu.max").split())
        else:
            yield from _quota([_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")])


def _cgroups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """The folders of this process's cgroups of a controller, each with the version of its hierarchy."""
    mounts = list(_mounts(_text(root / "proc/self/mountinfo")))
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            ours = [mount for mount in mounts if mount.kind == "cgroup2"]
            yield from ((2, folder) for folder in _folders(root, ours, path))
        elif controller in controllers.split(","):
            ours = [mount for mount in mounts if mount.kind == "cgroup" and controller in mount.options]
            yield from ((1, folder) for folder in _folders(root, ours, path))


def _quota(words: list[str]) -> Iterator[float]:
    """Of quota and period in microseconds; nothing for `max`, -1 and what cannot be understood."""
    with suppress(ValueError, OverflowError):
        quota, period = map(int, words)
        if quota > 0 and period > 0:
            yield quota / period


def _folders(root: Path, mounts: list[_Mount], path: str) -> list[Path]:
    """The folders of a cgroup and of those above it, as far as they can be seen.

    In a container the path may be one of the host, of which nothing is to be seen; the cgroup at the mount's root is
    then our own.
    """
    found: list[Path] = []
    for mount in mounts:
        below = PurePosixPath(path)
        if ".." in below.parts or not below.is_relative_to(mount.top):
            continue
        top = _in(root, mount.place)
        own = top / below.relative_to(mount.top)
        with suppress(OSError, ValueError):
            if own.is_dir():
                found += [own, *(folder for folder in own.parents if folder.is_relative_to(top))]
    return found or [_in(root, mount.place) for mount in mounts]


def _mounts(text: str) -> Iterator[_Mount]:
    """The cgroup file systems of a mountinfo, lines of `31 23 0:28 <root> <place> <options> [...] - <type> <source>
    <options>`."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if len(left) >= 5 and len(right) >= 3 and right[0] in {"cgroup", "cgroup2"}:
            yield _Mount(_unescape(left[4]), _unescape(left[3]), right[0], frozenset(right[2].split(",")))


def _unescape(text: str) -> str:
    """What the kernel writes of a path: blanks and the like as octal numbers."""
    for character in " \t\n\\":
        text = text.replace(f"\\{ord(character):03o}", character)
    return text


def _in(root: Path, place: str) -> Path:
    return root / place.lstrip("/")


def _text(file: Path) -> str:
    try:
        return os.fsdecode(file.read_bytes())
    except (OSError, ValueError):
        return ""
