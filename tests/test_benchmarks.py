"""The table of speeds is printed; how fast anything is is not tested."""

import subprocess
import sys
from pathlib import Path

import pytest

from autolink.errors import UsageError
from benchmarks.rounds import digits, ratios, turns
from benchmarks.table import Benchmarks


def test_the_table_names_what_is_measured_and_what_is_not() -> None:
    sizes = "--keypoints 2 --batch 1 --size 8 --rounds 1 --threads 1 --frames 4 --side 32"
    items = "edge-map redrawing loading paper"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *sizes.split(), "--only", *items.split()],
        cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, _, head, rule, *rows = done.stdout.splitlines()
    assert first.startswith("1 threads, 1 rounds, torch ") and "load at the end" in first
    assert head == "| what | ours | against | ratio | command |" and set(rule) == set("| -")
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == [
        "edge map, 2 keypoints, 8 px", "edge map, 2 keypoints, 8 px, authors",
        "detect and redraw a frame, faces, 256 px",
        "loading pictures of 32 px, one", "loading video of 32 px, one", "stage-one step, paper-k2, batch 1",
    ]  # fmt: skip
    missing = {row[0]: row[2] for row in cells if row[1] == "not measured"}
    assert sorted(missing.values()) == ["give --authors CLONE", "give --authors CLONE", "give --fomm CLONE"]
    assert all(" ms" in row[1] and " to " in row[3] for row in cells if row[0] not in missing)


def test_works_are_measured_in_turn_after_a_round_that_does_not_count() -> None:
    done: list[str] = []
    seconds = iter(range(100))
    found = turns({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, 2, lambda: float(next(seconds)))
    assert done == ["a", "b"] * 3 and found == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert ratios([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == "3 (2 to 4)"
    assert [digits(value) for value in (0.98512, 12.345, 1000.6)] == ["0.985", "12.3", "1,001"]


def test_wrong_options_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--only takes edge-map, .*got speed"):
        Benchmarks(only=("speed",))
    with pytest.raises(UsageError, match=r"--fomm .* is no clone of that code: it has no modules/model\.py"):
        Benchmarks(fomm=tmp_path)
