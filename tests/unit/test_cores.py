"""The cores that a worker may use, in cgroups of both versions, from files in a made-up root directory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from extractors.runtime.cores import THREAD_VARIABLES, keep_libraries_single_threaded, usable_cores, usable_memory

V2 = "30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "31 23 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct"
CPUSET = "32 23 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset"
HYBRID = "33 23 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
V2_FOLDER, V1_FOLDER = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"

Write = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def _sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> None:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return write


def set_up(write: Write, cgroup: str, *mounts: str) -> None:
    write("proc/self/cgroup", cgroup)
    others = ["22 1 8:1 / / rw - ext4 /dev/sda1 rw", "garbage", "1 2 - cgroup2"]
    write("proc/self/mountinfo", "\n".join([*others, *mounts]) + "\n")


def test_without_cgroups_the_cores_of_the_scheduler(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 16


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("1000 100000\n", 1),
        ("6400000 100000\n", 16),
        ("max 100000\n", 16),
        ("max\n", 16),
        ("", 16),
        ("200000", 16),
        ("200000 0\n", 16),
        ("-1 100000\n", 16),
        ("0 100000\n", 16),
        ("two hundred\n", 16),
        ("9" * 5000 + " 1", 16),
        ("9" * 4000 + " 1", 16),
        ("1 2 3", 16),
    ],
)
def test_version_2(text: str, cores: int, tmp_path: Path, write: Write) -> None:
    set_up(write, "0::/job\n", V2)
    write(f"{V2_FOLDER}/job/cpu.max", text)
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [("300000", "100000", 3), ("25000", "50000", 1), ("-1", "100000", 16), ("x", "100000", 16), ("300000", "", 16)],
)
def test_version_1(quota: str, period: str, cores: int, tmp_path: Path, write: Write) -> None:
    set_up(write, "5:cpuset:/elsewhere\n4:cpu,cpuacct:/job\n1:name=systemd:/\n", CPUSET, V1)
    write(f"{V1_FOLDER}/job/cpu.cfs_quota_us", f"{quota}\n")
    write(f"{V1_FOLDER}/job/cpu.cfs_period_us", f"{period}\n")
    assert usable_cores(tmp_path) == cores


def test_the_least_of_all_cgroups_above(tmp_path: Path, write: Write) -> None:
    set_up(write, "0::/slice/pod/job\n", V2)
    write(f"{V2_FOLDER}/slice/pod/job/cpu.max", "800000 100000")
    write(f"{V2_FOLDER}/slice/pod/cpu.max", "max 100000")
    write(f"{V2_FOLDER}/slice/cpu.max", "300000 100000")
    write(f"{V2_FOLDER}/slice/other/cpu.max", "100000 100000")
    assert usable_cores(tmp_path) == 3
    # What is above the mount is no cgroup.
    write("sys/fs/cpu.max", "100000 100000")
    assert usable_cores(tmp_path) == 3


def test_both_versions(tmp_path: Path, write: Write) -> None:
    set_up(write, "4:cpu,cpuacct:/job\n0::/unified\n", V1, HYBRID)
    write(f"{V1_FOLDER}/job/cpu.cfs_quota_us", "400000")
    write(f"{V1_FOLDER}/job/cpu.cfs_period_us", "100000")
    assert usable_cores(tmp_path) == 4
    write("sys/fs/cgroup/unified/unified/cpu.max", "300000 100000")
    assert usable_cores(tmp_path) == 3


@pytest.mark.parametrize("path", ["/docker/abc", "/../../kubepods/abc", "/", "no path at all"])
def test_in_a_container_the_mount_s_root_is_our_own(path: str, tmp_path: Path, write: Write) -> None:
    set_up(write, f"0::{path}\n", V2)
    write(f"{V2_FOLDER}/cpu.max", "200000 100000")
    write("sys/kubepods/abc/cpu.max", "100000 100000")
    assert usable_cores(tmp_path) == 2


def test_a_mount_of_a_part(tmp_path: Path, write: Write) -> None:
    """Version 1 in a container: the path is the host's, and the mount's root is that very cgroup."""
    mount = V1.replace(" / ", " /docker/abc ", 1)
    set_up(write, "4:cpu,cpuacct:/docker/abc/inner\n", mount)
    for folder, quota in (("", "500000"), ("/inner", "700000"), ("/docker/abc/inner", "100000")):
        write(f"{V1_FOLDER}{folder}/cpu.cfs_quota_us", quota)
        write(f"{V1_FOLDER}{folder}/cpu.cfs_period_us", "100000")
    assert usable_cores(tmp_path) == 5


def test_a_mount_of_another_part_is_not_ours(tmp_path: Path, write: Write) -> None:
    other = V2.replace(" / ", " /other ", 1).replace("/sys/fs/cgroup", "/mnt/other")
    set_up(write, "0::/job\n", other, V2)
    write("mnt/other/cpu.max", "100000 100000")
    write(f"{V2_FOLDER}/job/cpu.max", "300000 100000")
    assert usable_cores(tmp_path) == 3


def test_a_mount_with_a_blank_in_its_name(tmp_path: Path, write: Write) -> None:
    set_up(write, "0::/a:b c\n", V2.replace("/sys/fs/cgroup", r"/my\040groups"))
    write("my groups/a:b c/cpu.max", "200000 100000")
    assert usable_cores(tmp_path) == 2


@pytest.mark.parametrize("name", ["proc/self/cgroup", "proc/self/mountinfo", f"{V2_FOLDER}/job/cpu.max"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00 - cgroup2 \n", b"0::\x00\n", b"::::\n - - -\n", b"\n" * 100, None])
def test_never_raises(name: str, content: bytes | None, tmp_path: Path, write: Write) -> None:
    set_up(write, "0::/job\n", V2)
    write(f"{V2_FOLDER}/job/cpu.max", "200000 100000")
    file = tmp_path / name
    file.unlink()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    assert usable_cores(tmp_path) == 16


def test_what_the_environment_says_of_threads_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    keep_libraries_single_threaded()
    assert {name: os.environ[name] for name in THREAD_VARIABLES} == THREAD_VARIABLES | {"OMP_NUM_THREADS": "3"}


def test_a_worker_loads_numpy_only_after_that() -> None:
    """OpenBLAS reads its variable once, when it is loaded."""
    code = "import sys, extractors.s2; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_numpy_starts_no_threads() -> None:
    code = (
        "import os; from extractors.runtime.cores import keep_libraries_single_threaded as keep\n"
        "keep(); import numpy; print(len(os.listdir('/proc/self/task')), len(os.sched_getaffinity(0)))"
    )
    env = {name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES}

    def threads_and_cores(code: str) -> list[int]:
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        return [int(number) for number in done.stdout.split()]

    threads, cores = threads_and_cores(code)
    assert threads == 1
    # The control: it would, wherever there is more than one core.
    threads, _ = threads_and_cores(code.replace("keep(); ", ""))
    assert (threads > 1) == (cores > 1)


@pytest.mark.parametrize(
    ("text", "expected"), [("500000000\n", 500_000_000), ("max\n", 8_192_000), ("", 8_192_000), ("9" * 19, 8_192_000)]
)
@pytest.mark.parametrize("version", [1, 2])
def test_memory_is_the_least_of_machine_and_cgroup(
    write: Write, tmp_path: Path, version: int, text: str, expected: int
) -> None:
    write("proc/meminfo", "MemTotal:     8000 kB\nMemFree:  100 kB\n")
    if version == 2:
        set_up(write, "0::/\n", V2)
        write(f"{V2_FOLDER}/memory.max", text)
    else:
        set_up(write, "4:memory:/\n", V1.replace("cpu,cpuacct", "memory"))
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", text)
    assert usable_memory(tmp_path) == min(expected, 8_192_000)


def test_memory_that_nobody_knows(tmp_path: Path) -> None:
    assert usable_memory(tmp_path) is None
