"""Pictures from a folder or a zip, with or without annotation, decoded once into one array."""

import csv
import errno
import hashlib
import io
import json
import math
import os
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from autolink.errors import UsageError, UserError
from autolink.pretrained import write_text

Fit = Literal["stretch", "crop"]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""
LARGEST_COORDINATE = 1e6
"""Landmarks beyond so many pixels are mistakes."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


@dataclass(frozen=True)
class Annotation:
    """What landmarks.csv says, one row a picture; points in [-1, 1] of the square image, NaN where not annotated."""

    landmarks: NDArray[np.float32]
    """(N, L, 2), (x, y)."""
    identity: NDArray[np.str_]
    """(N,), empty where the csv is silent."""
    pixels: NDArray[np.float32]
    """(N, 2), pixels of the picture per unit of the [-1, 1] plane, (x, y)."""
    test: NDArray[np.bool_]
    """(N,), whether the picture is kept for testing: people in it are never trained on."""

    @property
    def annotated(self) -> NDArray[np.bool_]:
        """(N,), whether a picture has any landmark."""
        return np.logical_not(np.isnan(self.landmarks).any(2).reshape(len(self.landmarks), -1).all(1))

    def __getitem__(self, chosen: NDArray) -> "Annotation":
        """The rows of some of the pictures."""
        return Annotation(self.landmarks[chosen], self.identity[chosen], self.pixels[chosen], self.test[chosen])


@dataclass(frozen=True)
class ImageSet:
    """Pictures ready for the networks."""

    images: NDArray[np.uint8]
    """(N, size, size, 3), RGB; may be a memory-mapped file."""
    names: list[str]
    """Where each came from, relative to the folder."""
    annotation: Annotation | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    """Pictures that could not be read, and why."""

    def __len__(self) -> int:
        return len(self.images)


def square_box(width: int, height: int, fit: Fit) -> Box:
    """The part of a picture that becomes the square image."""
    if fit == "stretch":
        return 0, 0, width, height
    side = min(width, height)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def to_pixels(points: NDArray, width: int, height: int, fit: Fit) -> NDArray:
    """(..., 2) in [-1, 1] of the square image, whose outermost pixel centres are at the ends -> pixels of the picture.

    Pixel coordinates have (0, 0) at the centre of the top left pixel.
    """
    left, top, right, bottom = square_box(width, height, fit)
    return (points + 1) / 2 * [right - left - 1, bottom - top - 1] + [left, top]


def from_pixels(points: NDArray, width: int, height: int, fit: Fit) -> NDArray:
    """The inverse of `to_pixels`."""
    left, top, right, bottom = square_box(width, height, fit)
    return (points - [left, top]) / [max(1, right - left - 1), max(1, bottom - top - 1)] * 2 - 1


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode to RGB, upright: EXIF rotation applied, transparency over grey, 16-bit scaled to 8."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, dtype=np.float32)
        top = 65535 if values.max() > 255 else 255
        picture = Image.fromarray((values.clip(0, top) * (255 / top)).astype(np.uint8))
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, (128, 128, 128, 255))
        picture = Image.alpha_composite(ground, picture)
    return picture.convert("RGB")


def square(picture: Image.Image, size: int, fit: Fit) -> NDArray[np.uint8]:
    """An RGB picture at the networks' size: (size, size, 3)."""
    box = square_box(*picture.size, fit)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0))


@dataclass(frozen=True)
class Source:
    """Pictures that can be read one by one."""

    path: Path
    """The folder or zip."""
    names: list[str]
    """Pictures in it, relative, sorted."""
    tables: list[str]
    """Its landmarks.csv, if any."""
    is_zip: bool = False
    crops: dict[str, Box] = field(default_factory=dict)
    """The part of a picture that is used, where it is not all."""
    masks: dict[str, str] = field(default_factory=dict)
    """The file that is white where a picture is kept; grey takes the place of the rest."""

    @classmethod
    def find(cls, path: Path) -> "Source":
        """The pictures below a folder or inside a zip.

        Raises:
            UserError: there is no such folder or zip, or no pictures in it.
        """
        if not path.exists():
            raise UsageError(f"{path} does not exist; give a folder or a zip of pictures")
        is_zip = path.is_file() and path.suffix.lower() == ".zip"
        if is_zip:
            try:
                with zipfile.ZipFile(path) as archive:
                    found = [info.filename for info in archive.infolist() if not info.is_dir()]
            except (zipfile.BadZipFile, NotImplementedError):
                raise UserError(f"{path} is not a readable zip; pack it again") from None
        elif path.is_dir():
            found = [file.relative_to(path).as_posix() for file in files_below(path)]
        else:
            raise UsageError(f"{path} is neither a folder nor a zip of pictures")
        names = [name for name in sorted(found) if not _passed_over(name)]
        pictures = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
        if not pictures:
            raise UserError(f"{path} holds no jpg, png or webp pictures")
        return cls(path, pictures, [name for name in names if PurePosixPath(name).name == "landmarks.csv"], is_zip)

    @classmethod
    def single(cls, path: Path) -> "Source":
        """Just one picture file."""
        return cls(path.parent, [path.name], [])

    @cached_property
    def archive(self) -> zipfile.ZipFile:
        """The opened zip: reading its table anew for each picture takes longer than all pictures together."""
        return zipfile.ZipFile(self.path)

    def read(self, name: str) -> bytes:
        """The content of one file.

        Raises:
            Unreadable: it cannot be read; the message says why.
        """
        try:
            return self.archive.read(name) if self.is_zip else (self.path / name).read_bytes()
        except OSError as error:
            raise Unreadable(error.strerror or str(error)) from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise Unreadable(f"damaged in the zip: {error}") from None
        except RuntimeError as error:
            raise Unreadable("encrypted" if "encrypted" in str(error) else str(error)) from None

    def picture(self, name: str) -> Image.Image | str:
        """One picture, or why it cannot be read."""
        try:
            return read_picture(self.read(name))
        except Unreadable as error:
            return str(error)

    def prepared(self, name: str, picture: Image.Image) -> Image.Image | str:
        """A picture cut and masked as `crops` and `masks` say, or why it cannot be."""
        if name in self.masks:
            mask = self.picture(self.masks[name])
            if isinstance(mask, str):
                return f"its mask {self.masks[name]}: {mask}"
            ground = Image.new("RGB", picture.size, (128, 128, 128))
            picture = Image.composite(picture, ground, mask.convert("L").resize(picture.size))
        return picture.crop(self.crops[name]) if name in self.crops else picture

    def digest(self) -> str:
        """Changes when any picture does: a hash of names, sizes and times."""
        if self.is_zip:
            state = self.path.stat()
            text = f"{state.st_size} {state.st_mtime_ns}"
        else:
            text = "\n".join(f"{name} {_stamp(self.path / name)}" for name in self.names)
        if self.crops or self.masks:
            text += f"\n{sorted(self.crops.items())} {sorted(self.masks.items())}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Unreadable(Exception):
    """A file of a source that cannot be read; the message says why."""


def _passed_over(name: str) -> bool:
    """Hidden files, and names in a zip that lead out of it."""
    path = PurePosixPath(name)
    leads_out = path.is_absolute() or "\\" in name or ":" in path.parts[0]
    return leads_out or any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _stamp(path: Path) -> str:
    """Size and time of a file; a link that leads nowhere has none."""
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"{state.st_size} {state.st_mtime_ns}"


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, through links to folders too, each folder once."""
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(here) / file for file in files)


def load_images(
    path: Path, size: int, fit: Fit, cache: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> ImageSet:
    """Decode every picture of a folder or zip once, at the networks' size.

    Pictures that cannot be read are named in `skipped`. With `cache`, a folder, the array is kept there as a
    memory-mapped file that processes share and later runs reuse.

    Raises:
        UserError: nothing there, nothing readable, or landmarks.csv is wrong.
    """
    source = Source.find(path)
    images, names, sizes, skipped = load_source(source, size, fit, cache, progress)
    annotation = _read_annotation(source, names, sizes, fit) if source.tables else None
    return ImageSet(images, names, annotation, skipped)


class Loaded(NamedTuple):
    """The pictures of a source that can be read."""

    images: NDArray[np.uint8]
    """(N, size, size, 3), RGB; may be a memory-mapped file."""
    names: list[str]
    sizes: list[tuple[int, int]]
    """(width, height) of each as it lies on disk, cut as `Source.crops` says."""
    skipped: dict[str, str]
    """Pictures that cannot be read, and why."""


def load_source(
    source: Source, size: int, fit: Fit, cache: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Loaded:
    """Decode the pictures of a source, or take them from the cache; arguments and errors as in `load_images`."""
    key = f"{source.digest()}-{size}-{fit}"
    stored = cache / f"pictures-{key}.npy" if cache else None
    index = cache / f"pictures-{key}.json" if cache else None
    kept = _cached(stored, index) if stored and index else None
    if kept:
        facts, images = kept
    else:
        facts, images = _decode(source, size, fit, stored, progress)
        if index:
            write_text(index, json.dumps(facts))
    return Loaded(images, facts["names"], facts["sizes"], facts["skipped"])


def _cached(stored: Path, index: Path) -> tuple[dict, NDArray[np.uint8]] | None:
    """What an earlier run decoded, None where there is nothing or it is damaged."""
    try:
        facts = json.loads(index.read_text())
        images = np.load(stored, mmap_mode="r")
        return (facts, images) if len(images) == len(facts["names"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _decode(
    source: Source, size: int, fit: Fit, stored: Path | None, progress: Callable[[int, int], None] | None
) -> tuple[dict, NDArray[np.uint8]]:
    """All pictures of a source: names, sizes and skipped as a JSON-ready dict, and the array."""
    count = len(source.names)
    shape = (count, size, size, 3)
    beside = stored.with_name(f".{stored.name}.{os.getpid()}") if stored else None
    images: NDArray[np.uint8]
    if beside:
        beside.parent.mkdir(parents=True, exist_ok=True)
        images = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
        _reserve(beside)
    else:
        images = np.empty(shape, np.uint8)
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    skipped: dict[str, str] = {}

    def one(name: str) -> tuple[NDArray[np.uint8], tuple[int, int]] | str:
        return _decode_one(source, name, size, fit)

    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for done, (name, result) in enumerate(zip(source.names, pool.map(one, source.names), strict=True)):
                if isinstance(result, str):
                    skipped[name] = result
                else:
                    images[len(names)], original = result
                    names.append(name)
                    sizes.append(original)
                if progress:
                    progress(done + 1, count)
        if not names:
            raise UserError(
                f"none of the {count} pictures in {source.path} can be read; the first: {skipped[source.names[0]]}"
            )
        facts = {"names": names, "sizes": sizes, "skipped": skipped}
        if beside and stored:
            if len(names) < count:
                np.save(beside.with_suffix(".part.npy"), images[: len(names)])
                beside.with_suffix(".part.npy").replace(beside)
            beside.replace(stored)
            return facts, np.load(stored, mmap_mode="r")
        return facts, images[: len(names)]
    finally:
        if beside:
            beside.unlink(missing_ok=True)


def _reserve(path: Path) -> None:
    """Be told now if the disk is too small: writing to a mapped file that finds no room kills the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            path.unlink()
            if error.errno == errno.ENOSPC:
                raise OSError(error.errno, error.strerror, str(path.parent)) from None


def read_picture(content: bytes, at_least: int | None = None) -> Image.Image | str:
    """A picture file as upright RGB, or why it cannot be read.

    With `at_least`, a JPEG may come at a fraction of its size, but no smaller than this many pixels: much faster.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(content))
            if at_least:
                picture.draft("RGB", (at_least, at_least))
            return to_rgb(picture)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        return str(error).split(" <")[0] or type(error).__name__


def _decode_one(source: Source, name: str, size: int, fit: Fit) -> tuple[NDArray[np.uint8], tuple[int, int]] | str:
    """One picture at the networks' size and its own (width, height), or why it cannot be read."""
    try:
        content = source.read(name)
    except Unreadable as error:
        return str(error)
    changed = name in source.crops or name in source.masks
    picture = read_picture(content, at_least=None if changed else 3 * size)
    if isinstance(picture, str):
        return picture
    if changed:
        prepared = source.prepared(name, picture)
        return prepared if isinstance(prepared, str) else (square(prepared, size, fit), prepared.size)
    width, height = Image.open(io.BytesIO(content)).size
    if (width > height) != (picture.width > picture.height):  # EXIF laid it on its side
        width, height = height, width
    return square(picture, size, fit), (width, height)


def _read_annotation(source: Source, names: Sequence[str], sizes: Sequence[tuple[int, int]], fit: Fit) -> Annotation:
    """landmarks.csv for the pictures that were read; those without a row are not annotated."""
    table = source.tables[0]
    where = f"{source.path / table}"
    try:
        reader = csv.reader(io.StringIO(source.read(table).decode("utf-8-sig", errors="replace")))
    except Unreadable as error:
        raise UserError(f"{where} cannot be read: {error}") from None
    header = next(reader, [])
    if header[:3] != ["image", "identity", "split"] or len(header) < 5 or len(header) % 2 == 0:
        begins = ",".join(header[:5]) or "nothing"
        raise UserError(f"{where} must begin with the columns image,identity,split,x0,y0,..., it begins with {begins}")
    wanted = [f"{axis}{n}" for n in range((len(header) - 3) // 2) for axis in "xy"]
    if header[3:] != wanted:
        missing = next((w for w, h in zip(wanted, header[3:], strict=True) if w != h), "")
        raise UserError(f"{where} misses the column {missing}; landmark columns are x0,y0,x1,y1,... in this order")
    rows: dict[str, tuple[str, str, list[float]]] = {}
    for line, row in enumerate(reader, 2):
        if not row:
            continue
        cells = row[3:] + [""] * (len(wanted) - len(row[3:]))
        if len(row) < 3 or len(cells) != len(wanted):
            raise UserError(f"{where}, line {line}, has {len(row)} cells instead of {len(header)}")
        try:
            values = [float(cell) if cell.strip() else float("nan") for cell in cells]
        except ValueError as error:
            raise UserError(f"{where}, line {line}: {error}") from None
        if any(math.isinf(value) or abs(value) > LARGEST_COORDINATE for value in values):
            raise UserError(f"{where}, line {line}: a coordinate is infinite or far outside any picture")
        if row[2].strip().lower() not in ("train", "test", ""):
            raise UserError(f"{where}, line {line}: split is train, test or empty, got {row[2]}")
        rows[row[0]] = row[1], row[2], values
    folder = PurePosixPath(table).parent
    unique = {name for name, count in Counter(PurePosixPath(n).name for n in names).items() if count == 1}
    keys = [_row_name(name, folder, rows, unique) for name in names]
    if not any(keys):
        raise UserError(f"{where} names none of the pictures beside it; its first column must hold their file names")
    empty = ("", "train", [float("nan")] * len(wanted))
    found = [rows[key] if key else empty for key in keys]
    pixels = np.array([values for _, _, values in found]).reshape(len(names), -1, 2)
    points = np.stack([from_pixels(p, w, h, fit) for p, (w, h) in zip(pixels, sizes, strict=True)])
    identity = np.array([i for i, _, _ in found])
    test = held_out(identity, np.array([s.strip().lower() == "test" for _, s, _ in found]), names)
    boxes = np.array([square_box(w, h, fit) for w, h in sizes])
    scale = (boxes[:, 2:] - boxes[:, :2] - 1) / 2
    return Annotation(points.astype(np.float32), identity, scale.astype(np.float32), test)


def held_out(identity: NDArray[np.str_], test: NDArray[np.bool_], names: Sequence[str]) -> NDArray[np.bool_]:
    """Which pictures are for testing: the csv's choice, unless a person is on both sides of it or it has no test part.

    Then every fifth person (or picture, where there are no identities) is held out, chosen by a hash of the name so
    that the choice is the same everywhere. Somebody is always left to learn from.
    """
    named = identity != ""
    shared = np.isin(identity[test & named], identity[~test & named]).any()
    if test.any() and not shared:
        return test
    keys = identity if named.any() else np.array(names)
    chosen = {key for key in set(keys.tolist()) if hashlib.sha256(key.encode()).digest()[0] % 5 == 0}
    if chosen == set(keys.tolist()):
        return np.zeros(len(keys), bool)
    return np.array([key in chosen for key in keys])


def _row_name(name: str, folder: PurePosixPath, rows: dict, unique: set[str]) -> str | None:
    """The csv's name for a picture: relative to the csv, to `images/` beside it, or the bare file name if unique."""
    path = PurePosixPath(name)
    near = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else name
    for candidate in (near, near.removeprefix("images/")):
        if candidate in rows:
            return candidate
    return path.name if path.name in rows and path.name in unique else None
