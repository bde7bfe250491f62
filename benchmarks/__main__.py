"""Every speed in one table: python -m benchmarks [--authors CLONE] [--fomm CLONE] [--only edge-map step].

What is compared is measured turn by turn within one process, so that a busy machine hits both alike; numbers are
medians, ratios are medians over rounds with the smallest and the largest. About a quarter of an hour on two idle cores.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import tyro

from autolink.device import keep_memory
from autolink.errors import UsageError, command
from benchmarks.rounds import Row, markdown
from benchmarks.rows import ITEMS, Sizes, paper_memory, paper_steps

Result = TypeVar("Result")

PAPER = "paper"
"""The item whose networks are those of the paper."""


@dataclass(frozen=True)
class Benchmarks(Sizes):
    """Print the table."""

    only: tuple[str, ...] = (*ITEMS, PAPER)
    """Which items."""

    def __post_init__(self) -> None:
        unknown = set(self.only) - {*ITEMS, PAPER}
        if unknown:
            raise UsageError(f"--only takes {', '.join((*ITEMS, PAPER))}, got {', '.join(sorted(unknown))}")
        for option, clone, inside in (
            ("--authors", self.authors, "models/encoder.py"), ("--fomm", self.fomm, "modules/model.py"),
        ):  # fmt: skip
            if clone and not (clone / inside).is_file():
                raise UsageError(f"{option} {clone} is no clone of that code: it has no {inside}")


def alone(threads: int, work: Callable[..., Result], *arguments: object) -> Result:
    """A work in a process of its own, so that neither memory nor threads of another stay."""
    with multiprocessing.get_context("spawn").Pool(1, prepare, (threads,)) as pool:
        return pool.apply(work, arguments)


def prepare(threads: int) -> None:
    """What every process begins with."""
    keep_memory()
    torch.set_num_threads(threads)


def paper_rows(sizes: Benchmarks) -> list[Row]:
    """Time and memory of steps at paper size."""
    rows = []
    for K in sizes.keypoints:
        rows += alone(sizes.threads, paper_steps, sizes, K)
        if sizes.authors:
            ours, theirs = (alone(sizes.threads, paper_memory, sizes, K, which) for which in ("ours", "authors"))
            told = f"{ours:,.0f} MB", f"the authors' code: {theirs:,.0f} MB", f"{theirs / ours:.2f}"
            rows.append(Row(f"its peak memory, paper-k{K}", *told, "python -m benchmarks --authors CLONE"))
    return rows


def main(sizes: Benchmarks) -> None:
    """Measure item by item; what is done goes to standard error, the table to standard output."""
    rows: list[Row] = []
    for name in sizes.only:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        rows += paper_rows(sizes) if name == PAPER else alone(sizes.threads, ITEMS[name], sizes)
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{sizes.threads} threads, {sizes.rounds} rounds, torch {torch.__version__}; load at the end {load}\n")
    print(markdown(rows))


if __name__ == "__main__":
    command(lambda: main(tyro.cli(Benchmarks)))
