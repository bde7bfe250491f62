from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_nested import child_of, parent_model

from autolink.generation.pairs import draw_pairs
from autolink.generation.train_local import region_views, run
from autolink.generation.translator import PoseTransfer, Translator
from autolink.generation.translator_config import TranslatorConfig
from autolink.nested import NestedAutoLink
from autolink.video.writer import VideoWriter

SMALL = TranslatorConfig(keypoints=4, size=32, bones=3, channels=(8, 8), motion_size=16, motion_channels=(8, 8))


@pytest.mark.usefixtures("fresh_accelerator")
def test_child_and_translator_learn_together_and_are_laid_into_their_transfer(tmp_path: Path) -> None:
    parent = parent_model()
    NestedAutoLink(parent, {"part": child_of(parent)}).save_pretrained(tmp_path / "nested")
    PoseTransfer(parent, Translator(SMALL)).save_pretrained(tmp_path / "base")
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for n in range(2):
        with VideoWriter(tmp_path / "data" / f"{n}.mp4", Fraction(10)) as writer:
            for _ in range(4):
                writer.write(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8))
    for n in range(3):
        Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(tmp_path / "data" / f"{n}.png")
    run([
        "--child", str(tmp_path / "nested"), "--stage-one", str(tmp_path / "base"), "--region", "part",
        "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--size", "16", "--bones", "2",
        "--channels", "8", "8", "--motion-size", "8", "--motion-channels", "8", "8", "--steps", "2", "--batch", "4",
        "--feature-size", "16", "--threads", "1", "--precision", "no", "--adversarial-from", "0",
    ])  # fmt: skip
    made = PoseTransfer.from_pretrained(tmp_path / "run/model")
    assert made.local is not None
    child = made.local.parts()[0]["part"]
    before = child_of(parent).state_dict()
    learned = {name for name, value in child.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("detector.") for name in learned)
    assert not any(name.startswith("decoder.") for name in learned)


def test_moving_pairs_are_those_that_differ() -> None:
    from autolink.generation.pairs import Views

    frames = np.full((10, 16, 16, 3), 100, np.uint8)
    frames[7, 4:8] = 250  # the one blink
    views = Views(frames, np.array([0]), np.array([10]), np.array([False]), {})

    def blinks(moving: float) -> float:
        rng = np.random.default_rng(0)
        pairs = draw_pairs(views, np.array([0]), 400, False, rng, moving)
        return float((pairs.targets.amax((1, 2, 3)) == 250).float().mean())

    assert blinks(1.0) > 2.5 * blinks(0.0) > 0


def test_pictures_of_one_person_are_views_of_one_scene(tmp_path: Path) -> None:
    parent = parent_model()
    nested = NestedAutoLink(parent, {"part": child_of(parent, (False, True))})
    rng = np.random.default_rng(0)
    person, other = rng.integers(0, 255, (2, 48, 48, 3), dtype=np.uint8)
    for name, picture in {"a": person, "b": person, "c": other, "d": 255 - person}.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    points = ",".join("0" for _ in range(136))
    columns = ",".join(f"x{n},y{n}" for n in range(68))
    rows = [f"{name}.png,{who},train,{points}" for name, who in (("a", 1), ("b", 1), ("c", 2), ("d", 1))]
    (tmp_path / "landmarks.csv").write_text("\n".join([f"image,identity,split,{columns}", *rows]) + "\n")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    views = region_views(nested, str(tmp_path), "part", 16)
    assert sorted(views.lengths.tolist()) == [1, 1, 1, 1, 2, 2]  # twice each: the child has two places
    assert len(views.images) == views.lengths.sum() == 8 and not views.test.any()
    assert list(views.skipped) == ["broken.jpg"]


def test_what_is_trained_on_is_refused_before_anything_is_cropped(
    tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = parent_model()
    NestedAutoLink(parent, {"part": child_of(parent)}).save_pretrained(tmp_path / "nested")
    PoseTransfer(parent, Translator(SMALL)).save_pretrained(tmp_path / "base")
    monkeypatch.setattr("autolink.generation.train_local.region_views", lambda *_: pytest.fail("cropped"))
    arguments = [
        "--child", str(tmp_path / "nested"), "--stage-one", str(tmp_path / "base"), "--region", "part", "--bones", "2",
        "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--start-from", str(tmp_path / "base"),
    ]  # fmt: skip
    assert "has no translator of part" in fails(1, lambda: run(arguments))
    assert not (tmp_path / "run").exists()
