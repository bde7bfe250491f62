"""What is measured, item by item, and the table of it."""

import os
import sys
from dataclasses import dataclass

import torch

from autolink.errors import UsageError
from benchmarks.rounds import Row, alone, markdown
from benchmarks.rows import ITEMS, Sizes, paper_memory, paper_steps

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
