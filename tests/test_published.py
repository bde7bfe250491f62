"""The published sets, from miniature trees in the exact layout and file formats that are distributed."""

import csv
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import figures_in
from PIL import Image
from scipy.io import savemat

import autolink
from autolink import train
from autolink.config import EXPERIMENTS
from autolink.data import check_data, load_data
from autolink.data.pickled_table import read_names_and_points
from autolink.data.published import PUBLISHED, load_published, read_listing
from autolink.errors import UserError
from autolink.eval import keypoints, protocols
from autolink.eval.keypoints import KeypointsConfig
from autolink.run_state import RunFolder

rng = np.random.default_rng(0)


def picture(path: Path, size: tuple[int, int] = (40, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    low = rng.integers(0, 255, (4, 4, 3), np.uint8)
    Image.fromarray(low).resize(size).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def celeba(root: Path, folder: str, annotation: str, count: int = 60) -> None:
    """Pictures 1 to 60: the last quarter is MAFL's test part, every second of the others its train part."""
    names = [f"{n:06}.jpg" for n in range(1, count + 1)]
    for name in names:
        picture(root / folder / name, (178, 218) if "align" in folder else (40, 50))
    points = rng.integers(5, 35, (count, 5, 2))
    points[:, 1] = points[:, 0] + [9, 1]
    header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    rows = [f"{n} " + "  ".join(map(str, p.ravel())) for n, p in zip(names, points, strict=True)]
    write(root / annotation, "\n".join([str(count), header, *rows]) + "\n")
    boxes = [f"{n}    3  4  {20 if k % 10 else 3}  30" for k, n in enumerate(names)]  # 30 % of 40 x 50
    write(root / "list_bbox_celeba.txt", "\n".join([str(count), "image_id x_1 y_1 width height", *boxes]) + "\n")
    write(root / "list_eval_partition.txt", "".join(f"{n} {min(2, k // 20)}\n" for k, n in enumerate(names)))
    write(root / "MAFL/training.txt", "".join(f"{n}\n" for n in names[: count * 3 // 4 : 2]))
    write(root / "MAFL/testing.txt", "".join(f"{n}\n" for n in names[count * 3 // 4 :]))


def cub(root: Path) -> None:
    """Four species of twelve birds, every third for testing."""
    tables: dict[str, list[str]] = {
        n: [] for n in ("images", "train_test_split", "image_class_labels", "bounding_boxes")
    }
    parts = []
    for n in range(1, 49):
        species = (n - 1) // 12 + 1
        name = f"{species:03}.Bird/Bird_{n:04}.jpg"
        picture(root / "images" / name, (70, 53))
        tables["images"].append(f"{n} {name}")
        tables["train_test_split"].append(f"{n} {int(n % 3 > 0)}")
        tables["image_class_labels"].append(f"{n} {species}")
        tables["bounding_boxes"].append(f"{n} 11.0 7.0 30.0 24.0")
        for part in range(1, 16):
            x, y = rng.uniform(10, 40, 2)
            seen = (n + part) % 5 > 0
            parts.append(f"{n} {part} {x:.1f} {y:.1f} 1" if seen else f"{n} {part} 0.0 0.0 0")
    for table, lines in tables.items():
        write(root / f"{table}.txt", "\n".join(lines) + "\n")
    write(root / "parts/part_locs.txt", "\n".join(parts) + "\n")


def cub_aligned(root: Path) -> None:
    for side, count in (("train", 20), ("test", 8)):
        lines = ["idx,fname,fname_original,category"]
        for n in range(count):
            picture(root / f"images/{side}_{n}.png", (30, 30))
            lines.append(f"{n},images/{side}_{n}.png,001.Bird/Bird_{n}.jpg,1")
        write(root / f"{side}.csv", "\n".join(lines) + "\n")
        points = rng.random((count, 15, 3))
        points[..., 2] = points[..., 2] > 0.2
        np.save(root / f"{side}_kp.npy", points)


def human36m(root: Path) -> None:
    for subject in (1, 5, 6, 7, 8, 9, 11):
        person = root / f"S{subject}"
        for action in ("Directions 1", "Walking", "Sitting"):
            for frame in range(2):
                picture(person / "WithBackground" / action / f"{frame}.jpg", (32, 32))
                mask = person / "BackgroudMask" / action / f"{frame}.png"
                mask.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (32, 32), 255 * frame).save(mask)
                mat = person / "Landmarks" / action / f"{frame}.mat"
                mat.parent.mkdir(parents=True, exist_ok=True)
                savemat(mat, {"keypoints_2d": rng.random((32, 2))})


class _Frame:
    """Pickles as pandas' tables of 2018 do, under pandas' names."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


def pickled(names: list[str], points: np.ndarray) -> bytes:
    columns = np.array(["file_name", "frame_number", "value"], object)
    block = np.empty((2, len(names)), object)
    block[0], block[1, :] = names, [*points]
    fakes = {
        "pandas": ModuleType("pandas"),
        "pandas.core": ModuleType("core"),
        "pandas.core.frame": ModuleType("frame"),
    }
    kind = type("DataFrame", (_Frame,), {"__module__": "pandas.core.frame"})
    fakes["pandas.core.frame"].DataFrame = kind  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in fakes}
    sys.modules.update(fakes)
    try:
        return pickle.dumps(kind(_data=(columns, [np.zeros((1, len(names)), int), block])), protocol=4)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def taichi(root: Path) -> None:
    for clip in "ab":
        for frame in range(3):
            picture(root / "train" / clip / f"{frame}.png", (32, 32))
    for side, count in (("train", 20), ("test", 8)):
        names = [f"{n:05}.png" for n in range(count)]
        for name in names:
            picture(root / "eval_images/taichi-256" / side / name, (32, 32))
        points = rng.integers(0, 256, (count, 18, 2)).astype(float)
        points[rng.random((count, 18)) < 0.1] = -1
        write(root / f"landmark/taichi_{side}_gt.pkl", "")
        (root / f"landmark/taichi_{side}_gt.pkl").write_bytes(pickled(names, points))


def deepfashion(root: Path) -> None:
    for side, count in (("train", 20), ("test", 8)):
        lines, people = [",filename"], []
        for n in range(count):
            picture(root / "img" / f"{side}{n}.jpg", (32, 32))
            lines.append(f"{n},{side}{n}.jpg")
            people.append({"keypoints": rng.integers(0, 255, (16, 2)).tolist()})
        write(root / f"data_{side}.csv", "\n".join(lines) + "\n")
        write(root / f"data_{side}.json", json.dumps(people))


def flowers(root: Path) -> None:
    for n in range(1, 8):
        picture(root / f"jpg/image_{n:05}.jpg")
    savemat(root / "setid.mat", {"trnid": [[1, 4]], "valid": [[7]], "tstid": [[2, 3, 5, 6]]})


def folders(*names: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for name in names:
            for n in range(3):
                picture(root / name / f"{n}.jpg")

    return make


TREES: dict[str, Callable[[Path], None]] = {
    "celeba-wild": lambda root: celeba(root, "img_celeba", "list_landmarks_celeba.txt"),
    "celeba-aligned": lambda root: celeba(root, "img_align_celeba", "list_landmarks_align_celeba.txt"),
    **dict.fromkeys(("cub-all", "cub-001", "cub-002", "cub-003"), cub),
    "cub-aligned": cub_aligned,
    **dict.fromkeys(("human36m", "human36m-masked"), human36m),
    "taichi": taichi,
    "deepfashion": deepfashion,
    "hands": folders("Hands"),
    **dict.fromkeys(("horse", "zebra"), folders("trainA", "testA", "trainB", "testB")),
    "flowers": flowers,
    "afhq-cat": folders("train/cat", "val/cat"),
    "afhq-dog": folders("train/dog", "test/dog"),
    "afhq-wild": folders("train/wild", "test/wild"),
    "voxceleb": folders("train/id1#a#001.mp4", "train/id1#b#001.mp4", "test/id2#a#002.mp4"),
}

COUNTS = {  # annotated to fit on, all to train on, test
    "celeba-wild": (18, 28, 14), "celeba-aligned": (23, 20 + 13, 15), "cub-all": (32, 32, 16),
    "cub-001": (24, 24, 4), "cub-002": (24, 24, 4), "cub-003": (24, 24, 4), "cub-aligned": (20, 20, 8),
    "human36m": (24, 24, 4), "human36m-masked": (24, 24, 4), "taichi": (20, 26, 8), "deepfashion": (20, 20, 8),
    "hands": (0, 3, 0), "horse": (0, 3, 3), "zebra": (0, 3, 3), "flowers": (0, 4, 2), "afhq-cat": (0, 3, 3),
    "afhq-dog": (0, 3, 3), "afhq-wild": (0, 3, 3), "voxceleb": (0, 6, 3),
}  # fmt: skip


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[int, Path] = {}

    def root(name: str) -> Path:
        make = TREES[name]
        if id(make) not in made:
            made[id(make)] = tmp_path_factory.mktemp(name)
            make(made[id(make)])
        return made[id(make)]

    return root


def test_every_set_has_a_tree() -> None:
    assert TREES.keys() == PUBLISHED.keys() == COUNTS.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_set_is_read(name: str, trees: Callable[[str], Path]) -> None:
    root = trees(name)
    check_data(name, root)
    data = load_data(name, 16, "stretch", root=root)
    assert data.annotation is not None and not data.skipped and data.images.shape == (len(data), 16, 16, 3)
    annotation = data.annotation
    fitted, trained = (annotation.annotated & ~annotation.test).sum(), (~annotation.test).sum()
    assert (fitted, trained, annotation.test.sum()) == COUNTS[name]
    landmarks = annotation.landmarks[np.isfinite(annotation.landmarks)]
    assert (np.abs(landmarks) < 1.7).all()
    if PUBLISHED[name].protocol:
        only = load_published(name, root, 16, "stretch", annotated_only=True)
        assert only.names == [n for n, a in zip(data.names, annotation.annotated, strict=True) if a]


def test_celeba_landmarks_and_faces_that_are_too_small(trees: Callable[[str], Path]) -> None:
    listing = read_listing("celeba-wild", trees("celeba-wild"))
    text = (trees("celeba-wild") / "list_landmarks_celeba.txt").read_text().splitlines()
    assert not any(name.endswith(f"{n:06}.jpg") for n in range(1, 61, 10) for name in listing.names)
    row = listing.names.index("img_celeba/000003.jpg")
    expected = np.array(text[4].split()[1:], float).reshape(5, 2) / [40, 50]
    np.testing.assert_allclose(listing.landmarks[row], expected)
    assert np.isnan(listing.landmarks[listing.names.index("img_celeba/000002.jpg")]).all()  # not one of MAFL's


def test_celeba_training_list_of_the_authors_is_preferred(tmp_path: Path) -> None:
    TREES["celeba-aligned"](tmp_path)
    write(tmp_path / "MAFL/celebA_training.txt", "000001.jpg\n000060.jpg\n")  # the last is in the test part
    listing = read_listing("celeba-aligned", tmp_path)
    assert (~listing.test).sum() == 23 and listing.test.sum() == 15


def test_birds_are_cut_out_by_their_box(trees: Callable[[str], Path]) -> None:
    """Box (11, 7) 30 x 24 in a 70 x 53 picture, trimmed to 64 x 48 by a border of (3, 2): a square of 30 around it."""
    root = trees("cub-all")
    listing = read_listing("cub-all", root)
    assert set(listing.crops.values()) == {(11.0, 4.0, 44.0, 36.0)}
    for line in (root / "parts/part_locs.txt").read_text().splitlines()[:15]:
        _, part, x, y, seen = line.split()
        found = listing.landmarks[0, int(part) - 1]
        expected = [(float(x) - 11) / 33, (float(y) - 4) / 32] if seen == "1" else [np.nan, np.nan]
        np.testing.assert_allclose(found, expected)
    data = load_data("cub-all", 33, "stretch", root=root)
    original = np.asarray(Image.open(root / listing.names[0]).convert("RGB"))[4:36, 11:44]
    assert np.abs(data.images[0][::31].astype(int) - original[::31][:2]).mean() < 12


def test_masked_people_stand_on_grey(trees: Callable[[str], Path]) -> None:
    data = load_data("human36m-masked", 16, "stretch", root=trees("human36m-masked"))
    plain = load_data("human36m", 16, "stretch", root=trees("human36m"))
    for image, whole, name in zip(data.images[:], plain.images[:], data.names, strict=True):
        np.testing.assert_array_equal(image, whole if name.endswith("1.jpg") else np.full_like(image, 128))


def test_human36m_in_pixels_is_brought_to_the_same_scale(tmp_path: Path) -> None:
    human36m(tmp_path)
    before = read_listing("human36m", tmp_path).landmarks
    for path in tmp_path.rglob("*.mat"):
        from scipy.io import loadmat

        savemat(path, {"keypoints_2d": loadmat(path)["keypoints_2d"] * 32})
    np.testing.assert_allclose(read_listing("human36m", tmp_path).landmarks, before)


def test_the_central_square_moves_the_landmarks(trees: Callable[[str], Path]) -> None:
    root = trees("celeba-wild")
    whole, cut = (load_data("celeba-wild", 16, fit, root=root).annotation for fit in ("stretch", "crop"))
    assert whole is not None and cut is not None
    pixels = (whole.landmarks + 1) / 2 * [40, 50]
    np.testing.assert_allclose((cut.landmarks + 1) / 2 * 40 + [0, 5], pixels, atol=1e-4)


def test_pickles_run_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(tmp_path / "made"), "w"))

    (tmp_path / "t.pkl").write_bytes(pickle.dumps([Evil(), np.array([["a.png"], [None]], object)]))
    with pytest.raises(UserError, match="no columns file_name and value"):
        read_names_and_points(tmp_path / "t.pkl")
    assert not (tmp_path / "made").exists()
    points = rng.random((3, 18, 2))
    (tmp_path / "t.pkl").write_bytes(pickled(["a.png", "b.png", "c.png"], points))
    names, found = read_names_and_points(tmp_path / "t.pkl")
    assert names == ["a.png", "b.png", "c.png"]
    np.testing.assert_array_equal(found, points)


def hostile(shape: object, content: object, code: str = "O8", order: str = "|", dtype: bool = True) -> bytes:
    """A pickle that makes a dtype and fills an array as a real one does, with whatever it likes."""

    def part(value: object) -> bytes:
        return pickle.dumps(value, 3)[2:-1]  # without protocol and stop

    kind = b"cnumpy\ndtype\n" + part((code, False, True)) + b"R"
    kind += part((3, order, None, None, None, -1, -1, 63)) + b"b"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R"
    filled = b"(K\x01" + part(shape) + (kind if dtype else b"N") + b"\x89" + part(content) + b"tb"
    return b"\x80\x03" + made + filled + b"."


HOSTILE = {
    "three pointers": hostile((3,), b"A" * 24),
    "fewer entries": hostile((3,), ["a.png"]),
    "a negative side": hostile((-1,), []),
    "a huge side": hostile((2**62, 4), [1]),
    "fewer bytes": hostile((10**6,), bytes(8), "f8", "<"),
    "raw memory": hostile((1,), bytes(16), "V16"),
    "dates": hostile((1,), bytes(8), "M8", "<"),
    "no shape": hostile(3, [1, 2, 3]),
    "no type": hostile((3,), ["a.png", "b.png", "c.png"], dtype=False),
    "a class given a state": b"\x80\x02cnumpy\ndtype\n(tb.",
    "deeply nested": b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000 + b".",
    "a far place in the memo": b"\x80\x02Nr\xff\xff\xff\x7f.",  # for which the reader in C allots gigabytes
    "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "a command": b"\x80\x02cos\nsystem\nX\x0a\0\0\0touch made\x85R.",
}


def test_hostile_pickles_are_told(tmp_path: Path) -> None:
    """In a process of its own, for what is tried here has ended in a crash of the interpreter."""
    for name, content in HOSTILE.items():
        (tmp_path / f"{name}.pkl").write_bytes(content)
    code = (
        "from pathlib import Path\nfrom autolink.data.pickled_table import read_names_and_points\n"
        "from autolink.errors import UserError\n"
        "for path in Path().glob('*.pkl'):\n"
        "    try:\n        read_names_and_points(path)\n"
        "    except UserError as error:\n        print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(autolink.__file__).parents[1])},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    told = ended.stdout.splitlines()
    assert len(told) == len(HOSTILE) and all(line.endswith("download it again") for line in told)
    assert all(any(line.startswith(f"{name}.pkl") for line in told) for name in HOSTILE)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_tables_are_read_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    block, points = np.empty((2, 3), object), rng.random((3, 18, 2))
    block[0], block[1, :] = ["a.png", "b.png", "c.png"], [*points]
    (tmp_path / "t.pkl").write_bytes(pickle.dumps({"blocks": [np.arange(3), block]}, protocol))
    names, found = read_names_and_points(tmp_path / "t.pkl")
    assert names == ["a.png", "b.png", "c.png"]
    np.testing.assert_array_equal(found, points)


BROKEN: list[tuple[str, str, str | None, str]] = [
    ("celeba-wild", "list_bbox_celeba.txt", None, "list_bbox_celeba.txt is missing"),
    ("celeba-wild", "MAFL/testing.txt", None, "testing.txt is missing"),
    ("celeba-wild", "MAFL/testing.txt", "", "testing.txt is empty"),
    ("celeba-wild", "MAFL/testing.txt", "999999.jpg\n", "does not list 999999.jpg"),
    ("celeba-wild", "list_landmarks_celeba.txt", "1\nheader\n000001.jpg 1 2 x\n", "list_landmarks_celeba.txt, line 3"),
    ("celeba-wild", "img_celeba/000003.jpg", None, "000003.jpg is missing"),
    ("celeba-aligned", "img_align_celeba", None, "img_align_celeba is missing"),
    ("cub-all", "parts/part_locs.txt", None, "part_locs.txt is missing"),
    ("cub-all", "parts/part_locs.txt", "1 16 2.0 3.0 1\n", "part 16"),
    ("cub-001", "bounding_boxes.txt", "1 1 2 3 4\n", "says nothing of image 2"),
    ("cub-003", "images.txt", None, "images.txt is missing"),
    ("cub-aligned", "train_kp.npy", "no array", "train_kp.npy is damaged"),
    ("cub-aligned", "test.csv", "a,b\n", "no column fname"),
    ("human36m", "S11/WithBackground", None, "WithBackground is missing"),
    ("human36m", "S1/Landmarks/Walking/0.mat", None, "0.mat is missing"),
    ("human36m", "S1/Landmarks/Walking/0.mat", "no matlab", "0.mat is damaged"),
    ("human36m-masked", "S1/BackgroudMask/Walking/0.png", None, "0.png is missing"),
    ("taichi", "landmark/taichi_test_gt.pkl", None, "taichi_test_gt.pkl is missing"),
    ("taichi", "landmark/taichi_test_gt.pkl", "no pickle", "taichi_test_gt.pkl is damaged"),
    ("taichi", "eval_images/taichi-256/test/00003.png", None, "00003.png is missing"),
    ("deepfashion", "data_test.json", "[{}]", "data_test.json must be a list"),
    ("deepfashion", "data_test.json", '[{"keypoints": [[1, 2]]}]', "must agree"),
    ("deepfashion", "data_train.csv", "header\n", "data_train.csv must be"),
    ("flowers", "setid.mat", None, "setid.mat is missing"),
    ("flowers", "jpg/image_00005.jpg", None, "image_00005.jpg is missing"),
    ("zebra", "trainB", None, "trainB is missing"),
    ("afhq-cat", "val/cat", None, "nor is"),
]


@pytest.mark.parametrize(("name", "file", "content", "said"), BROKEN)
def test_a_wrong_layout_names_the_file(
    name: str, file: str, content: str | None, said: str, trees: Callable[[str], Path], tmp_path: Path
) -> None:
    """Links to the tree's files, but for the broken one."""
    source = trees(name)
    for path in source.rglob("*"):
        relative = path.relative_to(source)
        if path.is_file() and not (content is None and relative.is_relative_to(file)):
            (tmp_path / relative).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / relative).symlink_to(path)
    if content is not None:
        (tmp_path / file).unlink()
        (tmp_path / file).write_text(content)
    with pytest.raises(UserError) as error:
        check_data(name, tmp_path)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_data_and_root_belong_together(fails: Callable[..., str], tiny_checkpoint: Path, tmp_path: Path) -> None:
    def said(data: str, root: Path | None, **options: Any) -> str:
        given = KeypointsConfig(str(tiny_checkpoint), data, root=root, **options)
        return fails(2, lambda: keypoints.run(given))

    assert "needs --root" in said("taichi", None)
    assert "--root is for the published sets" in said("figures", tmp_path)
    assert "is no folder" in said("taichi", tmp_path / "nowhere")
    assert "has no landmarks" in said("hands", tmp_path)
    assert "its protocol fixes both" in said("taichi", tmp_path, bias=False)


@pytest.mark.parametrize("name", [n for n, p in PUBLISHED.items() if p.protocol])
def test_a_checkpoint_is_measured_by_the_sets_own_protocol(
    name: str, trees: Callable[[str], Path], tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keypoints.run(KeypointsConfig(str(tiny_checkpoint), name, tmp_path / "r.json", root=trees(name)))
    found = figures_in(tmp_path / "r.json")
    error = found["published_error"]
    said = capsys.readouterr().out
    assert name in said and f"Protocol of {PUBLISHED[name].protocol}: " in said and error.protocol in said
    assert error.value is not None and error.baseline is not None
    assert np.isfinite([error.value, error.baseline]).all() and error.data == name
    assert (error.samples, error.count) == (f"test pictures, fitted on {COUNTS[name][0]}", COUNTS[name][2])
    assert (error.better == "higher") == (name == "deepfashion")
    assert ("published_error_with_mended_pairs" in found) == name.startswith("human36m")


def test_the_figure_is_the_protocols(trees: Callable[[str], Path], tiny_checkpoint: Path, tmp_path: Path) -> None:
    """From the files to the figure by another way: landmarks straight from the json."""
    from autolink import AutoLink
    from autolink.device import to_network

    root = trees("deepfashion")
    model = AutoLink.from_pretrained(tiny_checkpoint)
    sides = []
    for side in ("train", "test"):
        rows = list(csv.reader(io.StringIO((root / f"data_{side}.csv").read_text())))[1:]
        images = np.stack([np.asarray(Image.open(root / "img" / row[1])) for row in rows])
        import torch

        found = model.keypoints(to_network(torch.from_numpy(images), torch.device("cpu"))).detach().numpy()
        landmarks = [person["keypoints"] for person in json.loads((root / f"data_{side}.json").read_text())]
        sides.append((found, np.array(landmarks)))
    expected = protocols.deepfashion(sides[0][0], sides[1][0], sides[0][1], sides[1][1])
    keypoints.run(KeypointsConfig(str(tiny_checkpoint), "deepfashion", tmp_path / "r.json", root=root))
    assert figures_in(tmp_path / "r.json")["published_error"].value == pytest.approx(expected * 100)


def test_training_reads_a_set_and_goes_on_from_anywhere(
    trees: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = trees("deepfashion")
    (tmp_path / "deepfashion").mkdir()  # a folder of that name is not what is meant
    (tmp_path / "set").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    config = train.parse_config(["--data", "deepfashion", "--root", "set", "--out", "run", "--size", "32"])
    assert config.data == "deepfashion" and config.root == tmp_path / "set"
    data = train.load_with_progress(config, tmp_path / "cache", visible=False)
    assert len(data) == 28 and data.annotation is not None and data.annotation.test.sum() == 8
    folder = RunFolder(tmp_path / "run")
    folder.open(config)
    folder.begin(config)
    folder.close()
    monkeypatch.chdir(root)
    resumed = train.parse_config(["--resume", "--out", str(tmp_path / "run")])
    assert (resumed.data, resumed.root) == (config.data, config.root)
    with pytest.raises(UserError, match="needs --root"):
        check_data(train.parse_config(["--preset", "figures", "--data", "taichi"]).data)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_of_the_paper_has_a_preset(name: str) -> None:
    config = train.parse_config(["--preset", name, "--root", "set"])
    assert config.data in PUBLISHED and config.model.keypoints == int(name.rsplit("-k")[1])
    assert config.model.size == 128 and config.model.heatmap_size == 32 and config.masked == 0.8
    assert config.run_folder == Path("runs") / name
    assert train.parse_config(["--preset", "human36m-k32"]).model.thickness == 7.5e-5
