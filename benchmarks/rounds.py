"""Measurements in turns, and the table that they make."""

import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median
from typing import TypeVar

import torch

from autolink.device import keep_memory

Result = TypeVar("Result")

COLUMNS = ("what", "ours", "against", "ratio", "command")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    """What is measured."""
    ours: str
    """Ours, with its unit."""
    against: str
    """What it is held against, with its unit."""
    ratio: str
    """Median over the rounds and, in brackets, the smallest and the largest."""
    command: str
    """The command that measures this in more detail."""


def turns(
    works: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each work in each round, all in turn within a round, after one round that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for n in range(rounds + 1):
        for name, work in works.items():
            start = clock()
            work()
            if n:
                found[name].append(clock() - start)
    return found


def alone(threads: int, work: Callable[..., Result], *arguments: object) -> Result:
    """A work in a process of its own, so that neither memory nor threads of another stay."""
    with ProcessPoolExecutor(1, get_context("spawn"), prepare, (threads,)) as pool:
        return pool.submit(work, *arguments).result()


def prepare(threads: int) -> None:
    """What every process begins with; standard output is for the table alone."""
    sys.stdout = sys.stderr
    keep_memory()
    torch.set_num_threads(threads)


def ratios(over: list[float], under: list[float]) -> str:
    """Round by round, as `spread`."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def spread(values: list[float]) -> str:
    """Median and, in brackets, the ends."""
    return f"{digits(median(values))} ({digits(min(values))} to {digits(max(values))})"


def digits(value: float) -> str:
    """Three digits, or all before the point: 0.985, 12.3, 1,001."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def milliseconds(seconds: list[float], share: int = 1) -> str:
    """The median, of one of `share` equal parts."""
    return f"{digits(median(seconds) * 1e3 / share)} ms"


def not_measured(what: str, option: str, command: str) -> Row:
    """A line that says which option is missing."""
    return Row(what, "not measured", f"give {option} CLONE", "", command)


def markdown(rows: list[Row]) -> str:
    """The table."""
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    lines += [(row.what, row.ours, row.against, row.ratio, f"`{row.command}`") for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
