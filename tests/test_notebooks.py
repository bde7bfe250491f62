"""The notebooks run, and are as small as they must be."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))
SHORT = {
    "train-on-a-folder": {
        '"my_animals"), 1200': '"my_animals"), 24',
        "--batch 16 --steps 400": "--batch 4 --steps 4 --feature-size 32 --log-every 1 --threads 1",
    },
    "re-animate-a-clip": {
        "--out moved": "--size 64 --end 0.4 --out moved",
        "SOURCE, DRIVER, lips": "SOURCE, DRIVER, size=64, end=0.4, lips",
        "smooth=2": "smooth=2, size=64",
    },
    "tour": {},
}  # fmt: skip
"""What makes each notebook short."""


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} == SHORT.keys()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_small_and_was_executed_from_top_to_bottom(path: Path) -> None:
    assert path.stat().st_size < 300_000
    assert [cell["execution_count"] for cell in cells(path)] == list(range(1, len(cells(path)) + 1))
    assert sum("image/jpeg" in output.get("data", {}) for cell in cells(path) for output in cell["outputs"]) >= 2
    told = "".join("".join(output.get("text", "")) for cell in cells(path) for output in cell["outputs"])
    assert not re.search(r"/home/|/root/|/tmp/|error:|Traceback|warning", told), told


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("nbclient"), reason="needs the extra docs")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_cells_run(path: Path, tmp_path: Path) -> None:
    from recipes.notebooks import execute

    text = "".join("".join(cell["source"]) for cell in cells(path))
    for known in SHORT[path.stem]:
        assert known in text, f"{path.name} no longer holds {known}"
    executed = [cell for cell in execute(path, tmp_path, SHORT[path.stem]).cells if cell.cell_type == "code"]
    for before, after in zip(cells(path), executed, strict=True):
        kinds = [["image/jpeg" in output.get("data", {}) for output in cell["outputs"]] for cell in (before, after)]
        assert kinds[0] == kinds[1], after.source
    made = {"train-on-a-folder": "overlays/keypoints.json", "re-animate-a-clip": "again.mp4"}
    assert path.stem not in made or (tmp_path / made[path.stem]).is_file()
