"""The notebook runs, and is as small as it must be."""

import json
from pathlib import Path
from typing import Any

import pytest

TOUR = Path(__file__).resolve().parents[1] / "docs" / "tour.ipynb"


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(TOUR.read_text())["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def test_it_is_small_and_was_executed_from_top_to_bottom() -> None:
    assert TOUR.stat().st_size < 300_000
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    assert sum("image/jpeg" in output.get("data", {}) for cell in cells() for output in cell["outputs"]) >= 4


@pytest.mark.slow
def test_its_lines_run() -> None:
    names: dict[str, Any] = {}
    for cell in cells():
        exec(compile("".join(cell["source"]), TOUR.name, "exec"), names)
    assert len(names["frames"]) == 5 and names["animals"].shape == (3, 5, 64, 64, 3)
