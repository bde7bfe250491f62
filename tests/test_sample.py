import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import array
from PIL import Image

from autolink.detect import DetectConfig
from autolink.detect import run as detect
from autolink.generation.gan import Gan
from autolink.generation.generator import REMEMBERED
from autolink.generation.sample import SampleConfig, run
from autolink.generation.sample_pictures import laid_out, path_through, to_pictures
from autolink.generation.structures import Structures, kept_edges, moved, plausible, read_structures, spread
from autolink.video.files import read_frames, video_facts
from autolink.video.writer import VideoWriter


@pytest.fixture
def sample(tiny_gan: Path, tmp_path: Path) -> Callable[..., Path]:
    """Run the command with some options and a grid to write; where the grid is."""

    def one(name: str = "grid", **options: object) -> Path:
        grid = tmp_path / f"{name}.png"
        run(SampleConfig(checkpoint=str(tiny_gan), grid=grid, **options))  # type: ignore[arg-type]
        return grid

    return one


def cells(grid: Path, side: int = 128) -> np.ndarray:
    """(rows, columns, side, side, 3)."""
    picture = array(grid).astype(int)
    rows, columns = picture.shape[0] // (side + 2), picture.shape[1] // (side + 2)
    return picture.reshape(rows, side + 2, columns, side + 2, 3).swapaxes(1, 2)[:, :, :side, :side]


def test_without_pictures_the_checkpoint_remembers_structures(
    sample: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    grid = cells(sample(rows=3, appearances=4))
    assert grid.shape[:2] == (3, 5)  # edge map and four appearances
    assert "3 structures, 4 appearances of cat, dog" in capsys.readouterr().out
    assert np.abs(grid[0, 1] - grid[0, 2]).mean() > 0 and np.abs(grid[0, 1] - grid[1, 1]).mean() > 0


def test_what_no_remembered_structure_does_is_left_out(tiny_gan: Path, animals: Path) -> None:
    gan = Gan.from_pretrained(tiny_gan)
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(10, 10)))[0][:3]
    mean = rng.uniform(-0.5, 0.5, 10)
    known = mean + rng.normal(size=(REMEMBERED, 3)) @ (axes * [[0.3], [0.2], [0.1]])
    with torch.no_grad():
        gan.generator.structures.copy_(torch.from_numpy(known).view(REMEMBERED, 5, 2))
    away = rng.normal(size=(4, 10)) * 0.1
    structures = (known[:4] + away - away @ axes.T @ axes).reshape(4, 5, 2).astype(np.float32)
    kept = plausible(gan, structures, 3)
    np.testing.assert_allclose(kept, known[:4].reshape(4, 5, 2), atol=1e-5)
    np.testing.assert_allclose(plausible(gan, kept, 3), kept, atol=1e-5)
    np.testing.assert_array_equal(plausible(gan, structures, 0), structures)
    np.testing.assert_allclose(plausible(gan, structures, 4), kept, atol=1e-5)  # there are only three
    gan.generator.structures.copy_(gan.generator.structures.half())  # of which 16 bits make no fourth
    np.testing.assert_allclose(plausible(gan, structures, 4), kept, atol=2e-3)
    as_found = read_structures(gan, (animals,), 4, 0).keypoints
    np.testing.assert_allclose(read_structures(gan, (animals,), 4, 3).keypoints, plausible(gan, as_found, 3), atol=1e-6)
    gan.generator.structures.zero_()
    np.testing.assert_array_equal(plausible(gan, structures, 3), structures)


def test_an_appearance_does_not_depend_on_the_others(sample: Callable[..., Path]) -> None:
    many, picked = cells(sample("a", appearances=4)), cells(sample("b", pick=(2, 0)))
    np.testing.assert_array_equal(picked[:, 1], many[:, 3])
    np.testing.assert_array_equal(picked[:, 2], many[:, 1])
    seeds = [cells(sample(f"seed {seed}", appearances=1, seed=seed))[:, 1:] for seed in range(4)]
    assert all(np.abs(a - b).mean() > 0 for n, a in enumerate(seeds) for b in seeds[:n])


def test_structures_of_pictures_and_their_keypoints_agree(
    sample: Callable[..., Path], animals: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    detect(DetectConfig(animals / "dog", tmp_path / "found", str(tiny_checkpoint)))
    direct = cells(sample("a", structures=(animals / "dog",), appearances=2, class_name="dog"))
    assert direct.shape[:2] == (4, 4)  # its own picture comes first
    again = cells(sample("b", structures=(tmp_path / "found" / "keypoints.json",), appearances=2, class_name="dog"))
    assert np.abs(direct[:, 1:] - again).mean() < 2  # the file rounds to hundredths of a pixel


def test_classes_come_from_folders_or_the_option(tiny_gan: Path, animals: Path) -> None:
    gan = Gan.from_pretrained(tiny_gan)
    found = read_structures(gan, (animals,), 4)
    assert found.classes.tolist() == [0, 1, 0, 1] and "cat/" in found.names[0]
    assert read_structures(gan, (animals / "dog",), 2).classes.tolist() == [1, 1]
    assert read_structures(gan, (next((animals / "dog").iterdir()),), 2).classes.tolist() == [1]


def test_mixed_structures_and_truncation(sample: Callable[..., Path]) -> None:
    cat, dog = (cells(sample(name, appearances=2, class_name=name)) for name in ("cat", "dog"))
    np.testing.assert_array_equal(cat[:, 0], dog[:, 0])  # the same edge maps
    assert np.abs(cat[:, 1:] - dog[:, 1:]).mean() > 0
    mean = cells(sample("mean", appearances=2, class_name="cat", truncation=0.0))
    np.testing.assert_array_equal(mean[:, 1], mean[:, 2])


def test_editing_moves_scales_and_switches_off(tiny_gan: Path, sample: Callable[..., Path]) -> None:
    keypoints = np.array([[[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [-0.5, 0.0], [0.0, -0.5]]], np.float32)
    structures = Structures(["a"], keypoints, np.zeros(1, np.int64))
    edited = moved(structures, ("1:0.1,-0.2",), 0.5, (0.25, 0.0))
    np.testing.assert_allclose(
        edited.keypoints[0], keypoints[0] * 0.5 + [0.25, 0] + [[0, 0], [0.1, -0.2], *[[0, 0]] * 3]
    )
    np.testing.assert_array_equal(structures.keypoints, keypoints)
    kept = kept_edges(Gan.from_pretrained(tiny_gan), ("4-0", "1-2"))
    assert kept is not None and torch.nonzero(~kept).flatten().tolist() == [3, 4]  # 0-4 is the fourth, 1-2 the fifth
    plain, changed = cells(sample("a")), cells(sample("b", drop_edge=("0-1", "0-2", "0-3"), numbers=True))
    assert changed.shape[:2] == (8, 8)
    np.testing.assert_array_equal(changed[::2, 1:], plain[:, 1:])  # the unedited row comes first
    assert np.abs(changed[1::2] - plain).mean((1, 2, 3, 4)).min() > 0


def test_one_is_locked_while_the_other_changes(sample: Callable[..., Path]) -> None:
    plain = cells(sample("a", rows=3, appearances=10, class_name="cat"))
    one = cells(sample("b", rows=3, appearances=10, class_name="cat", lock="structure"))
    assert one.shape[:2] == (2, 8)  # its edge map and ten appearances, in lines of eight
    first = cells(sample("c", rows=1, appearances=10, class_name="cat"))[0]
    np.testing.assert_array_equal(one.reshape(16, 128, 128, 3)[:11], first)
    assert (one[1, 3:] == 255).all()
    same = cells(sample("d", rows=3, pick=(4, 9), class_name="cat", lock="appearance"))
    assert same.shape[:2] == (2, 3)  # edge maps above pictures
    np.testing.assert_array_equal(same[0], plain[:, 0])
    np.testing.assert_array_equal(same[1], plain[:, 5])


def test_bands_of_columns() -> None:
    def picture(value: int) -> np.ndarray:
        return np.full((1, 1, 3), value, np.uint8)

    strips = [[picture(n), picture(100 + n)] for n in range(20)]
    rows = laid_out(strips, "appearance", 2)  # ten structures, unedited and edited
    assert [[int(cell[0, 0, 0]) for cell in row] for row in rows] == [
        [*range(0, 16, 2)], [*range(100, 116, 2)], [*range(1, 16, 2)], [*range(101, 116, 2)],
        [16, 18, *[255] * 6], [116, 118, *[255] * 6], [17, 19, *[255] * 6], [117, 119, *[255] * 6],
    ]  # fmt: skip


def test_a_sweep_passes_through_the_appearance(tiny_gan: Path, sample: Callable[..., Path]) -> None:
    plain, swept = cells(sample("a", rows=2, pick=(3,))), cells(sample("b", rows=2, pick=(3,), sweep=0))
    assert swept.shape[:2] == (2, 8)
    np.testing.assert_array_equal(swept[:, 4], plain[:, 1])
    apart = [np.abs(swept[:, n] - swept[:, 4]).mean() for n in range(1, 8)]
    assert apart[0] > apart[1] > apart[2] > 0 and 0 < apart[4] < apart[5] < apart[6]
    assert np.abs(swept[:, 7] - cells(sample("c", rows=2, pick=(3,), sweep=1))[:, 7]).mean() > 0


def test_a_file_is_named_where_none_was(
    tiny_gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("samples.png", "samples-2.png"):
        run(SampleConfig(str(tiny_gan), rows=1, appearances=1))
        assert name in capsys.readouterr().out and (tmp_path / name).is_file()
    with VideoWriter(tmp_path / "in.mp4", Fraction(10)) as writer:
        for n in range(5):
            writer.write(np.full((40, 40, 3), 40 * n, np.uint8))
    run(SampleConfig(str(tiny_gan), (tmp_path / "in.mp4",), appearances=1))
    assert len(list(read_frames(tmp_path / "samples.mp4"))) == 5
    assert video_facts(tmp_path / "samples.mp4").rate == 10  # of the video whose structures they are


def test_spread_takes_classes_in_turn() -> None:
    structures = Structures(list("abcdef"), np.zeros((6, 3, 2), np.float32), np.array([0, 0, 0, 0, 1, 1]))
    assert [structures.classes[ord(n) - 97] for n in spread(structures, 4).names] == [0, 1, 0, 1]
    assert len(spread(structures, 5)) == 5 and spread(structures, 9) is structures


def test_video_of_structures_and_of_appearances(sample: Callable[..., Path], tmp_path: Path) -> None:
    sample("a", video=tmp_path / "s.mp4", rows=3, appearances=2, between=4)
    frames = list(read_frames(tmp_path / "s.mp4"))
    assert len(frames) == 12 and frames[0].shape == (128, 3 * 128, 3)
    sample("b", video=tmp_path / "a.gif", rows=3, appearances=2, between=3, interpolate="appearance")
    frames = list(read_frames(tmp_path / "a.gif"))
    assert frames[0].shape == (256, 3 * 128, 3)
    with VideoWriter(tmp_path / "in.mp4", Fraction(25)) as writer:
        for n in range(5):
            writer.write(np.full((40, 40, 3), 40 * n, np.uint8))
    sample("c", structures=(tmp_path / "in.mp4",), video=tmp_path / "v.mp4", appearances=2, class_name="cat")
    assert len(list(read_frames(tmp_path / "v.mp4"))) == 5
    sample("d", video=tmp_path / "e.mp4", rows=2, appearances=2, between=2, scale=0.9)
    assert next(iter(read_frames(tmp_path / "e.mp4"))).shape == (256, 3 * 128, 3)  # the unedited one above
    sample("e", video=tmp_path / "l.mp4", rows=2, appearances=2, between=3, lock="structure")
    assert len(list(read_frames(tmp_path / "l.mp4"))) == 6  # from one appearance to the next and back


def test_in_a_video_the_class_changes_as_the_structure_does(tiny_gan: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.mp4"
    run(SampleConfig(str(tiny_gan), video=path, rows=4, appearances=3, between=4))
    frames = np.stack(list(read_frames(path)))[::4].astype(float)  # at each structure: two cats, then two dogs
    gan = Gan.from_folder(tiny_gan)
    remembered = read_structures(gan, (), 4)
    order = np.argsort(remembered.classes, kind="stable")
    assert remembered.classes[order].tolist() == [0, 0, 1, 1]
    points = torch.from_numpy(remembered.keypoints[order])

    def distance(number: int, classes: list[int]) -> float:
        styles = torch.stack([gan.appearances(range(3), class_number=c)[number] for c in classes])
        expected = np.stack(to_pictures(gan.generate(points, styles)))
        return float(np.abs(frames[:, :, 128 * (number + 1) : 128 * (number + 2)] - expected).mean())

    for number in range(3):
        assert distance(number, [0, 0, 1, 1]) < 0.5 * distance(number, [0, 0, 0, 0])


def test_path_begins_at_each_and_returns() -> None:
    values = torch.tensor([[0.0], [1.0], [4.0]])
    path = path_through(values, 4)
    assert path.shape == (12, 1) and path[::4].flatten().tolist() == [0, 1, 4]
    assert path[2].item() == pytest.approx(0.5) and path[10].item() == pytest.approx(2.0)  # half way, and half way back


def test_single_pictures_go_into_a_folder(sample: Callable[..., Path], tmp_path: Path) -> None:
    sample(folder=tmp_path / "out", rows=2, pick=(0, 5))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "0000-seed0-0000.png", "0000-seed0-0005.png", "0001-seed0-0000.png", "0001-seed0-0005.png",
    ]  # fmt: skip
    assert array(tmp_path / "out" / "0000-seed0-0000.png").shape == (32, 32, 3)
    sample("b", folder=tmp_path / "swept", rows=1, pick=(5,), sweep=1, seed=3)
    assert [p.name for p in sorted((tmp_path / "swept").iterdir())][:2] == [
        "0000-seed3-0005-sweep1+0.png", "0000-seed3-0005-sweep1+1.png",
    ]  # fmt: skip


def test_keypoint_files_that_cannot_be(sample: Callable[..., Path], fails: Callable[..., str], tmp_path: Path) -> None:
    def said(content: object) -> str:
        path = tmp_path / "keypoints.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return fails(1, lambda: sample(structures=(path,)))

    image = {"image": "a.png", "width": 64, "height": 64}
    assert "has 4 keypoints, the checkpoint 5" in said({"images": [{**image, "keypoints": [[1, 2]] * 4}]})
    assert "keypoint 0 is at" in said({"images": [{**image, "keypoints": [[300, 2], *[[1, 2]] * 4]}]})
    assert "keypoint 1 is at (nan" in said(
        {"images": [{**image, "keypoints": [[1, 2], [float("nan"), 2], *[[1, 2]] * 3]}]}
    )
    assert "no keypoints file" in said({"pictures": []})
    assert "no keypoints file" in said({"images": []})
    assert "no keypoints file" in said("not json")
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"class_name": "cow"}, "knows cat, dog"), ({"move": ("9:0,0",)}, "keypoints are 0 to 4"),
     ({"move": ("1:a",)}, "--move 1:a"), ({"drop_edge": ("2-2",)}, "--drop-edge 2-2"),
     ({"drop_edge": ("0-7",)}, "--drop-edge"),
     ({"structures": (Path("missing.png"),)}, "does not exist"), ({"truncation": 3.0}, "--truncation"),
     ({"directions": -1}, "--directions"),
     ({"rows": 0}, "--rows"), ({"scale": 0.0}, "--scale"), ({"video": Path("a.avi")}, "--video a.avi"),
     ({"seed": -1}, "--seed"), ({"pick": (-1,)}, "--pick"), ({"sweep": 5}, "--sweep is 0 to 4"),
     ({"lock": "appearance", "sweep": 0}, "--lock appearance"),
     ({"lock": "appearance", "interpolate": "appearance"}, "--lock appearance")],
)  # fmt: skip
def test_options_that_cannot_be(
    options: dict[str, Any], said: str, sample: Callable[..., Path], fails: Callable[..., str], tmp_path: Path
) -> None:
    assert said in fails(2, lambda: sample(**options))
    assert not list(tmp_path.iterdir())


def test_moving_a_keypoint_out_of_the_picture(sample: Callable[..., Path], fails: Callable[..., str]) -> None:
    assert "outside of the picture" in fails(1, lambda: sample(move=("0:9,0",)))


def test_nothing_is_overwritten_unasked(
    sample: Callable[..., Path], fails: Callable[..., str], tmp_path: Path, tiny_gan: Path, tiny_checkpoint: Path
) -> None:
    grid = sample(rows=1)
    before = grid.read_bytes()
    assert "exists" in fails(2, lambda: sample(rows=1, seed=5))
    assert grid.read_bytes() == before
    sample(rows=1, seed=5, overwrite=True)
    assert grid.read_bytes() != before
    (tmp_path / "full").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "full" / "a.png")
    assert "not an empty folder" in fails(2, lambda: sample("b", folder=tmp_path / "full"))
    assert "holds a stage one" in fails(1, lambda: run(SampleConfig(str(tiny_checkpoint), grid=tmp_path / "c.png")))
