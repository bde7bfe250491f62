"""The recipes of the bundled checkpoints run from beginning to end, with two steps a training."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autolink import AutoLink, Gan, PoseTransfer
from autolink.checkpoints import Pretrained, kind_of
from autolink.eval.judge_model import Judge

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.sh"))
KINDS: dict[str, type[Pretrained]] = {"autolink": AutoLink, "transfer": PoseTransfer, "gan": Gan, "judge": Judge}

SHORT = ["--steps", "2", "--batch", "4"]
TRAINING = ["--feature-size", "32", "--log-every", "1", "--threads", "1"]


def test_each_bundled_checkpoint_has_a_recipe() -> None:
    assert {path.stem for path in RECIPES} == {path.parent.name for path in ROOT.glob("checkpoints/*/config.json")}


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many pictures as it takes to erase colour from 24 keypoints."""
    folder, rng = tmp_path_factory.mktemp("pets"), np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for n in range(270):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(folder / name / f"{n}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_recipe_runs(recipe: Path, scenes: Path, pets: Path, tmp_path: Path) -> None:
    for name in ("train_autolink.py", "autolink", "eval", "generation", "video", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "checkpoints", tmp_path / "checkpoints")
    folders = {"FACES": scenes, "TALK": scenes, "FEWER": scenes, "HEADS": scenes, "PETS": pets}
    usage = re.search(rf"^# bash recipes/{recipe.name} ((?:[A-Z]+ )*)\[OPTION", recipe.read_text(), re.MULTILINE)
    assert usage, "the second line says how it is called"
    options = SHORT if recipe.stem.endswith("judge") else SHORT + TRAINING
    words = ["bash", str(recipe), *(str(folders[name]) for name in usage[1].split()), *options]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    old, new = ROOT / "checkpoints" / recipe.stem, tmp_path / "checkpoints" / recipe.stem
    assert (old / "model.safetensors").read_bytes() != (new / "model.safetensors").read_bytes()
    assert (old / "README.md").read_text() == (new / "README.md").read_text()
    one, other = (KINDS[kind_of(folder)].from_folder(folder).state_dict() for folder in (old, new))
    assert {name: t.shape for name, t in one.items()} == {name: t.shape for name, t in other.items()}
