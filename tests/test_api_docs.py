"""The Python of README, docs and the package's own docstring runs."""

import re
import textwrap
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import autolink
from autolink.data.figures import figure_clip
from autolink.generation import extract
from autolink.generation.extract import ExtractConfig
from autolink.video.writer import VideoWriter

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def python_of(page: Path) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))


SHOWN = {page.name: python_of(page) for page in PAGES if python_of(page)}
assert autolink.__doc__
SHOWN["autolink.__doc__"] = autolink.__doc__.partition("\n\n")[2]


@pytest.mark.parametrize("name", SHOWN)
def test_the_lines_run(name: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, _ = figure_clip(5, 3, 96)
    for picture in ("my_photo.png", "photo.jpg"):
        Image.fromarray(frames[0]).save(tmp_path / picture)
    for clip in ("my_pose.mp4", "driver.mp4"):
        with VideoWriter(tmp_path / clip, Fraction(25)) as writer:
            for frame in frames:
                writer.write(frame)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "model").symlink_to(tiny_checkpoint)
    names = {"images": torch.zeros(2, 3, 32, 32), "np": np}
    monkeypatch.chdir(tmp_path)
    if name == "scaling.md":
        extract.run(ExtractConfig(("my_pose.mp4",), Path("my_points"), str(tiny_checkpoint)))
    exec(compile(textwrap.dedent(SHOWN[name]), name, "exec"), names)


def test_what_the_readme_promises_of_their_shapes(tmp_path: Path) -> None:
    Image.fromarray(figure_clip(1, 3, 96)[0][0]).save(tmp_path / "my_photo.png")
    model = autolink.AutoLink.from_pretrained("faces")
    K = model.config.keypoints
    assert model.detect(tmp_path / "my_photo.png", pixels=True).shape == (K, 2)
    assert model.edge_weights.shape == (K * (K - 1) // 2,)
    cats = autolink.Gan.from_pretrained("pets-gan").sample(structures=2, appearances=3, seed=0, class_name="cat")
    assert cats.shape == (2, 3, 128, 128, 3) and cats.dtype == np.uint8
