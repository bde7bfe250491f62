import json
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from conftest import array
from PIL import Image

from autolink import AutoLink, ModelConfig, detect
from autolink.choose import masked_error, straying
from autolink.data.animals import animal_images
from autolink.data.figures import figure_clip, figure_images
from autolink.detect import DetectConfig, Finder
from autolink.detected import replace_result, write_result
from autolink.video.files import read_frames, video_facts
from autolink.video.motion import read_motion
from autolink.video.writer import VideoWriter


def run(checkpoint: Path, source: Path, out: Path, **more: object) -> dict[str, Any]:
    detect.run(DetectConfig(source, out, str(checkpoint), **more))  # type: ignore[arg-type]
    found: dict[str, Any] = json.loads((out / "keypoints.json").read_text())
    return found


def test_a_folder_gives_overlays_and_pixels_of_the_original(
    tiny_checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    found = run(tiny_checkpoint, pictures, tmp_path / "out")
    assert len(found["images"]) == 24 and len(found["graph"]) == 10
    assert (tmp_path / "out" / "keypoints.json").read_text() == json.dumps(found, indent=1) + "\n"
    first = found["images"][0]
    assert (first["image"], first["width"], first["height"]) == ("images/00.png", 60, 40)
    overlay, original = array(tmp_path / "out" / "images" / "00.png"), array(pictures / "images" / "00.png")
    assert overlay.shape == original.shape and (overlay != original).any()
    model = AutoLink.from_pretrained(tiny_checkpoint)
    x, y = Finder(model, torch.device("cpu")).find([original])[0].T
    np.testing.assert_allclose(np.array(first["keypoints"]).T, [x, y], atol=0.01)
    assert (x >= 0).all() and (x <= 59).all() and (y >= 0).all() and (y <= 39).all()


def test_a_single_picture_of_any_mode(tiny_checkpoint: Path, tmp_path: Path) -> None:
    Image.new("LA", (33, 21)).save(tmp_path / "one.png")
    found = run(tiny_checkpoint, tmp_path / "one.png", tmp_path / "out")
    assert [image["image"] for image in found["images"]] == ["one.png"]
    assert array(tmp_path / "out" / "one.png").shape == (21, 33, 3)


def test_a_video_keeps_its_rate_and_length(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    with VideoWriter(tmp_path / "clip.mp4", rate) as writer:
        for frame in figure_clip(35, 1, 64)[0]:
            writer.write(frame)
    found = run(tiny_checkpoint, tmp_path / "clip.mp4", tmp_path / "out")
    assert len(found["frames"]) == 35 and found["rate"] == "30000/1001"
    assert video_facts(tmp_path / "out" / "clip.mp4").rate == rate
    assert len(list(read_frames(tmp_path / "out" / "clip.mp4"))) == 35
    assert (found["video"], found["width"], found["height"]) == ("clip.mp4", 64, 64)
    assert (tmp_path / "out" / "keypoints.json").read_text() == json.dumps(found, indent=1) + "\n"


def test_a_result_of_any_length_is_written_and_replaced_in_constant_memory(tmp_path: Path) -> None:
    frames = [[[n + 0.25, k + 0.5] for k in range(16)] for n in range(100)]
    (tmp_path / "new").mkdir()
    for count in (1, 2, 100, 2000):
        tracemalloc.start()
        some = (frames[n % 100] for n in range(count))
        assert write_result(tmp_path / "keypoints.json", {"video": "a.mov"}, "frames", some, {}) == count
        (tmp_path / "a.mp4").write_bytes(b"its overlay")
        replace_result(tmp_path / "new", tmp_path, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 200_000
        tracemalloc.stop()
        assert not (tmp_path / "a.mp4").exists()
        wanted = {"video": "a.mov", "frames": [frames[n % 100] for n in range(count)]}
        assert (tmp_path / "keypoints.json").read_text() == json.dumps(wanted, indent=1) + "\n"
    assert (tmp_path / "keypoints.json").stat().st_size > 900_000


def test_keypoints_without_overlays(tiny_checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", Fraction(25)) as writer:
        for frame in figure_clip(5, 1, 64)[0]:
            writer.write(frame)
    assert tyro.cli(DetectConfig, args=["--input", "in", "--out", "out", "--no-overlay"]).overlay is False
    for name, source in (("clip", tmp_path / "clip.mp4"), ("pictures", pictures)):
        out = tmp_path / name
        drawn = run(tiny_checkpoint, source, out)
        assert sum(file.is_file() for file in out.rglob("*")) == (2 if name == "clip" else 25)
        found = run(tiny_checkpoint, source, out, overwrite=True, overlay=False)
        assert [file.name for file in out.iterdir()] == ["keypoints.json"]  # earlier overlays are gone
        assert found.pop("overlays") is False and found == drawn
    (tmp_path / "clip" / "clip.mp4").write_bytes(b"of somebody else, who may call it so")
    run(tiny_checkpoint, tmp_path / "clip.mp4", tmp_path / "clip", overwrite=True, overlay=False)
    assert len(list((tmp_path / "clip").iterdir())) == 2
    assert len(read_motion(tmp_path / "clip" / "keypoints.json").keypoints) == 5


def test_unreadable_pictures_are_named(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (20, 20)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"broken")
    Image.new("RGB", (20, 20)).save(folder / "c.png")
    found = run(tiny_checkpoint, folder, tmp_path / "out")
    assert [image["image"] for image in found["images"]] == ["a.png", "c.png"] and list(found["skipped"]) == ["b.png"]
    assert "skipped b.png" in capsys.readouterr().err


def test_wrong_input_is_told_and_nothing_is_left(
    fails: Callable[..., str], tiny_checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def said(code: int, source: Path, checkpoint: Path = tiny_checkpoint, target: Path = out, **more: Any) -> str:
        return fails(code, lambda: run(checkpoint, source, target, **more))

    assert "does not exist" in said(2, tmp_path / "nothing.png")
    assert "there is no checkpoint" in said(1, pictures, tmp_path / "a" / "b")
    (tmp_path / "bad.png").write_bytes(b"bad")
    (tmp_path / "bad.mp4").write_bytes(b"bad")
    assert "none of the pictures" in said(1, tmp_path / "bad.png")
    assert "bad.mp4" in said(1, tmp_path / "bad.mp4")
    assert "is a file" in said(2, pictures, target=tmp_path / "bad.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.mp4", "bad.png"]
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    for overwrite in (False, True):
        assert "no earlier result" in said(2, pictures, overwrite=overwrite)
    assert (out / "mine.txt").read_text() == "keep"
    assert "lies in it" in said(2, pictures, target=pictures / "overlays")
    assert not (pictures / "overlays").exists()
    if not torch.cuda.is_available():
        assert "--device cuda" in said(2, pictures, device="cuda")


def test_overwrite_replaces_its_own_files_only(tiny_checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(tiny_checkpoint, pictures, out)
    (out / "thesis.txt").write_text("years of work")
    run(tiny_checkpoint, pictures / "images" / "00.png", out, overwrite=True)
    assert sorted(p.name for p in out.iterdir()) == ["00.png", "keypoints.json", "thesis.txt"]


def test_an_overlay_never_replaces_its_input(
    fails: Callable[..., str], tiny_checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(tiny_checkpoint, pictures / "images" / "00.png", out)
    before = (out / "00.png").read_bytes()
    said = fails(2, lambda: run(tiny_checkpoint, out / "00.png", out, overwrite=True))
    assert "would replace the input" in said and (out / "00.png").read_bytes() == before


@pytest.mark.parametrize(("kind", "images"), [("figures", figure_images), ("pets", animal_images)])
def test_the_checkpoint_that_knows_the_pictures_is_taken(
    kind: str, images: Callable[..., tuple[Any, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n, image in enumerate(images(4, seed=901, size=64)[0]):  # pets finds eyes and noses of drawn animals, too
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "in" / f"{n}.png")
    detect.run(DetectConfig(tmp_path / "in", tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "keypoints.json").read_text())["checkpoint"] == kind
    assert capsys.readouterr().out.startswith(f"checkpoint {kind}: of animals, faces, figures, pets")


def test_the_checkpoint_for_a_video_is_chosen_by_frames_of_it(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", Fraction(25)) as writer:
        for frame in figure_clip(9, 901, 64)[0]:
            writer.write(frame)
    detect.run(DetectConfig(tmp_path / "clip.mp4", tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "keypoints.json").read_text())["checkpoint"] == "figures"


def test_the_masked_error_is_of_hidden_pixels_alone() -> None:
    class Grey(AutoLink):
        """Rebuilds what is visible, and 0 elsewhere."""

        def reconstruct(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return images * torch.nn.functional.interpolate(mask, size=images.shape[2:])

    images = torch.ones(2, 3, 64, 64) * torch.tensor([1.0, 0.5])[:, None, None, None]
    torch.testing.assert_close(masked_error(Grey(ModelConfig()), images), torch.tensor([1.0, 0.5]))


def test_straying_is_of_what_does_not_move_with_the_picture() -> None:
    class Brightest(AutoLink):
        """Its keypoints are the centroids of red, green and blue, or, if `still`, fixed in the frame."""

        still = False

        def keypoints(self, images: torch.Tensor) -> torch.Tensor:
            axis = torch.linspace(-1, 1, images.shape[3])
            total = images.sum((2, 3))
            x, y = (images.sum(d) @ axis / total for d in (2, 3))
            return torch.tensor([[[-0.5, 0.0], [0.5, 0.0]]]) if self.still else torch.stack([x, y], 2)

    images = torch.zeros(1, 3, 64, 64)
    images[0, 0, 20, 30] = images[0, 1, 40, 25] = images[0, 2, 33, 44] = 1
    model = Brightest(ModelConfig())
    torch.testing.assert_close(straying(model, images), torch.zeros(1), atol=1e-5, rtol=0)
    model.still = True  # windows lie 4 px from the central one, each keypoint a quarter of 55 from their centre
    torch.testing.assert_close(straying(model, images), torch.tensor([(4 * 16 / 5) ** 0.5 / (55 / 4)]))


def test_no_picture_to_choose_by(tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    said = fails(1, lambda: detect.run(DetectConfig(tmp_path / "in", tmp_path / "out")))
    assert "--checkpoint" in said and not (tmp_path / "out").exists()
