"""Where networks compute, in which precision, and how pictures get there."""

import ctypes
import math
import os
from pathlib import Path

import torch
from torch import Tensor

from autolink.errors import UsageError


def pick_device(name: str) -> torch.device:
    """The device of a `--device` option.

    Raises:
        UsageError: cuda was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no usable graphics card here; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def pick_precision(precision: str = "auto") -> str:
    """`auto` is bf16 on graphics cards and processors that have it in hardware, else full precision."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 does not tell
    return "bf16" if capabilities.get("avx512_bf16", False) else "no"


def keep_memory() -> None:
    """Have the C library keep freed memory: returning and refaulting pages takes half of a training step on a CPU."""
    mmap_max, trim_threshold, top_pad = -4, -1, -2
    try:
        libc = ctypes.CDLL(None)
        for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**28)):
            libc.mallopt(option, value)
    except (OSError, AttributeError):  # not glibc: slower, nothing else
        return


LAUNCHERS = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")
"""Environment variables of launchers, which set OMP_NUM_THREADS to 1 where the user has not."""


def default_threads(processes: int = 1) -> int:
    """CPU threads of each of some processes: OMP_NUM_THREADS but for a launcher's 1, else a share of all cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) and not (asked == "1" and any(name in os.environ for name in LAUNCHERS)):
        return int(asked)
    return max(1, usable_cores() // processes)


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_quota())))


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Cores' worth of time that the container is given (cgroup version 2 or 1); infinite where there is no limit."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError):  # "max" is no number either
        return math.inf


def prepare_cpu(device: torch.device, threads: int = 0, processes: int = 1) -> None:
    """Where a CPU computes: keep freed memory, and use so many threads; 0 means `default_threads`."""
    if device.type == "cpu":
        keep_memory()
        torch.set_num_threads(threads or default_threads(processes))


def to_network(batch: Tensor, device: torch.device) -> Tensor:
    """(B, H, W, 3) 8-bit -> (B, 3, H, W) in [-1, 1]."""
    return batch.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 127.5 - 1
