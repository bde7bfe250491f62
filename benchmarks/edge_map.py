"""The edge map against the paper's formula written out: python benchmarks/edge_map.py.

Forward and backward, interleaved in one run; memory is measured in a process of its own for each row.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import tyro
from torch import Tensor

from autolink.edge_map import edge_map, edge_pairs


@dataclass(frozen=True)
class Benchmark:
    """Ratios of time, and peak memory, of the edge map and of a plain implementation."""

    keypoints: tuple[int, ...] = (8, 16, 32)
    """Numbers of keypoints."""
    batch: int = 8
    """Pictures; the plain implementation needs some 10 GB for 8 of 32 keypoints."""
    size: int = 128
    """Side of the map in pixels."""
    thickness: float = 1e-3
    """Squared width of an edge."""
    rounds: int = 5
    """Pairs of measurements."""
    threads: int = 2
    """CPU threads."""
    memory_of: str = ""
    """Internal: print the peak memory of `ours` or `plain` for the first number of keypoints."""


def materialised(keypoints: Tensor, weights: Tensor, size: int, thickness: float) -> Tensor:
    """Every edge drawn as a map of its own, weighted, then the maximum: (B, E, size, size) in between."""
    i, j = edge_pairs(keypoints.shape[1])
    a, b = keypoints[:, i, None], keypoints[:, j, None]
    axis = torch.linspace(-1, 1, size)
    p = torch.stack([axis.repeat(size), axis.repeat_interleave(size)], 1)
    d = b - a
    t = ((p - a) * d).sum(-1) / (d.square().sum(-1) + 1e-8)
    distance = (p - a - t.clamp(0, 1)[..., None] * d).square().sum(-1)
    return (weights[:, None] * torch.exp(-distance / thickness)).amax(1).view(-1, 1, size, size)


def graph(K: int, batch: int) -> tuple[Tensor, Tensor]:
    """Random keypoints and weights that want gradients."""
    torch.manual_seed(K)
    keypoints = (torch.rand(batch, K, 2) * 1.6 - 0.8).requires_grad_()
    return keypoints, torch.rand(K * (K - 1) // 2).requires_grad_()


def milliseconds(draw: Callable[..., Tensor], K: int, config: Benchmark) -> float:
    """Forward and backward once."""
    keypoints, weights = graph(K, config.batch)
    start = time.perf_counter()
    draw(keypoints, weights, config.size, config.thickness).sum().backward()
    return (time.perf_counter() - start) * 1e3


def peak_megabytes() -> float:
    """The largest resident memory of this process so far; getrusage would count the parent's from before the fork."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory(which: str, K: int, config: Benchmark) -> float:
    """Peak memory above a drawing of two keypoints, measured in a fresh process, in megabytes."""
    options = ["--keypoints", str(K), "--batch", str(config.batch), "--size", str(config.size), "--memory-of", which]
    done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main(config: Benchmark) -> None:
    """Print the table."""
    torch.set_num_threads(config.threads)
    if config.memory_of:
        milliseconds(edge_map, 2, config)
        before = peak_megabytes()
        milliseconds(edge_map if config.memory_of == "ours" else materialised, config.keypoints[0], config)
        print(peak_megabytes() - before)
        return
    print(
        f"{config.size} px, batch {config.batch}, {config.threads} threads, forward + backward, {config.rounds} pairs"
    )
    print("  K  ours ms  plain ms  ratio  ours MB  plain MB")
    for K in config.keypoints:
        milliseconds(edge_map, K, config)
        pairs = [
            (milliseconds(edge_map, K, config), milliseconds(materialised, K, config)) for _ in range(config.rounds)
        ]
        ours, plain = (median(times) for times in zip(*pairs, strict=True))
        ratio = median(b / a for a, b in pairs)
        used = [memory(which, K, config) for which in ("ours", "plain")]
        print(f"{K:3} {ours:8.1f} {plain:9.1f} {ratio:6.1f} {used[0]:8.0f} {used[1]:9.0f}")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
