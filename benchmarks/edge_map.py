"""The edge map against the paper's formula written out: python benchmarks/edge_map.py.

Beside both, the loop over edges in torch. Interleaved in one run; memory is measured in a process of its own.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
import tyro
from torch import Tensor

from autolink import edge_map_torch
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
    """Measurements of each, turn by turn."""
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


def loop(keypoints: Tensor, weights: Tensor, size: int, thickness: float) -> Tensor:
    """The edge map by a loop over edges in torch, as devices without a kernel draw it."""
    with patch("autolink.edge_map._kernels", lambda _: edge_map_torch):
        return edge_map(keypoints, weights, size, thickness)


def milliseconds(draw: Callable[..., Tensor], K: int, config: Benchmark) -> tuple[float, float]:
    """Forward, and forward and backward, once."""
    keypoints, weights = graph(K, config.batch)
    start = time.perf_counter()
    drawn = draw(keypoints, weights, config.size, config.thickness)
    forward = time.perf_counter()
    with patch("autolink.edge_map._kernels", lambda _: edge_map_torch) if draw is loop else nullcontext():
        drawn.sum().backward()
    return (forward - start) * 1e3, (time.perf_counter() - start) * 1e3


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
    print(f"{config.size} px, batch {config.batch}, {config.threads} threads, {config.rounds} rounds, medians")
    print("(smallest and largest ratio of a round); ratios to ours")
    print(
        "  K                 pass  ours ms  loop ms  formula ms       loop / ours    formula / ours"
        "  ours MB  formula MB"
    )
    for K in config.keypoints:
        draws = (edge_map, loop, materialised)
        milliseconds(edge_map, K, config)
        rounds = [[milliseconds(draw, K, config) for draw in draws] for _ in range(config.rounds)]
        used = [memory(which, K, config) for which in ("ours", "plain")]
        for n, name in enumerate(("forward", "forward + backward")):
            times = [[draw[n] for draw in turn] for turn in rounds]
            ours, slow, plain = (median(column) for column in zip(*times, strict=True))
            ratios = [spread([turn[other] / turn[0] for turn in times]) for other in (1, 2)]
            print(
                f"{K:3} {name:>20} {ours:8.2f} {slow:8.1f} {plain:11.1f} {ratios[0]:>17} {ratios[1]:>17}"
                f" {used[0]:7.0f} {used[1]:11.0f}"
            )


def spread(ratios: list[float]) -> str:
    """Median and, in brackets, the ends."""
    return f"{median(ratios):.0f} ({min(ratios):.0f}-{max(ratios):.0f})"


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
