import math
import os
from pathlib import Path

import pytest

from autolink import device


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Eight cores, no quota, and no launcher."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(device, "cpu_quota", lambda: math.inf)
    for name in ("OMP_NUM_THREADS", *device.LAUNCHERS):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("asked", "launcher", "quota", "processes", "threads"),
    [
        ("", "", math.inf, 1, 8), ("", "", math.inf, 3, 2), ("", "", math.inf, 20, 1),
        ("", "", 2.0, 1, 2), ("", "", 2.5, 1, 3), ("", "", 0.5, 1, 1), ("", "", 4.0, 2, 2),
        ("3", "", math.inf, 1, 3), ("3", "", math.inf, 2, 3), ("1", "", math.inf, 1, 1), ("0", "", math.inf, 1, 8),
        ("many", "", math.inf, 1, 8), ("1", "TORCHELASTIC_RUN_ID", math.inf, 2, 4),
        ("1", "ACCELERATE_MIXED_PRECISION", math.inf, 1, 8), ("2", "ACCELERATE_MIXED_PRECISION", math.inf, 1, 2),
    ],
)  # fmt: skip
def test_threads_by_wish_quota_and_processes(
    machine: pytest.MonkeyPatch, asked: str, launcher: str, quota: float, processes: int, threads: int
) -> None:
    machine.setattr(device, "cpu_quota", lambda: quota)
    if asked:
        machine.setenv("OMP_NUM_THREADS", asked)
    if launcher:
        machine.setenv(launcher, "1")
    assert device.default_threads(processes) == threads


def test_the_containers_quota(tmp_path: Path) -> None:
    assert device.cpu_quota(tmp_path) == math.inf
    (tmp_path / "cpu").mkdir()
    for quota, cores in (("-1", math.inf), ("150000", 1.5)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
        (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
        assert device.cpu_quota(tmp_path) == cores
    for content, cores in (("max 100000\n", math.inf), ("250000 100000\n", 2.5), ("nonsense", math.inf)):
        (tmp_path / "cpu.max").write_text(content)
        assert device.cpu_quota(tmp_path) == cores
