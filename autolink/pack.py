"""Tar shards of pictures and videos, for data larger than memory: autolink pack FOLDERS... --out shards."""

import io
import json
import math
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from autolink.data.clips import read_clip
from autolink.data.folders import read_folders
from autolink.data.landmarks import Told, read_told
from autolink.data.shards import ABOUT, index_file, read_index, scan
from autolink.data.source import Source
from autolink.device import usable_cores
from autolink.errors import UsageError, UserError, command
from autolink.files import atomic_path, parse_json, write_text
from autolink.pictures import FORMATS, PictureError, decode_reduced
from autolink.video.container import VideoError

SKIPPED = ".skipped.txt"
"""Ending of the list of what could not be read, and why."""

AT_ONCE = 64
"""Pictures that are held in memory at once."""

KEPT = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
"""Formats, with their endings, in which a small picture is left as it is."""

QUALITY = 95
"""Of JPEG, colours at full resolution."""


@dataclass(frozen=True)
class PackConfig:
    """Pack pictures and videos into tar shards, which every machine can train from however many they are.

    They are in the webdataset layout; --data of train, train-gan and eval takes their folder. What is packed already
    is not done again, so a packing that was stopped goes on by the same command.
    """

    sources: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders or zips of pictures, folders of videos, videos. With several, each one's name is a folder in the set."""
    out: Path
    """Folder for the shards."""
    side: int = 256
    """Larger pictures become so small that this is their shorter side; smaller ones stay as they are."""
    pictures: int = 10_000
    """Pictures of a shard at most, but a video is not divided."""
    frames: int = 200
    """Frames taken of a video at most, evenly spread, their central squares."""

    def __post_init__(self) -> None:
        if self.side < 8:
            raise UsageError(f"--side is in pixels, at least 8, got {self.side}")
        for name in ("pictures", "frames"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} must be at least 1, got {getattr(self, name)}")


class Item(NamedTuple):
    """A picture or a video that is to be packed."""

    source: Source
    name: str
    """In its source."""
    named: str
    """In the set."""
    key: str
    """In the tar; a frame's begins with it."""
    label: str
    """Its class; empty where no folder names one."""
    is_video: bool


class Sample(NamedTuple):
    """What becomes files in a tar."""

    key: str
    ending: str
    content: bytes
    name: str
    size: tuple[int, int]
    """(width, height) before it was made smaller."""


@dataclass(frozen=True)
class Plan:
    """Everything that is to be packed, in order."""

    sources: list[Source]
    items: list[Item]
    shards: list[tuple[int, int]]
    """The first item of each and the one behind its last."""
    classes: list[str]
    """Empty where the folders name none."""
    rows: dict[str, int]
    """The row of `told` of each picture by its name in the set."""
    told: Told | None

    @classmethod
    def of(cls, config: PackConfig) -> "Plan":
        """What the sources hold; nothing is decoded.

        Raises:
            UserError: one is missing or empty, two have the same name, or a landmarks.csv is wrong.
        """
        sources = [Source.find(path, videos=True) for path in config.sources]
        prefixes = [_prefix(path) if len(sources) > 1 else "" for path in config.sources]
        items = [item for source, prefix in zip(sources, prefixes, strict=True) for item in _items(source, prefix)]
        twice = [name for name, count in Counter(item.named for item in items).items() if count > 1]
        if twice:
            raise UsageError(f"{twice[0]} would be in the set twice; rename one of the sources that hold it")
        items = _finished(items)
        labels = {item.label for item in items}
        classes = sorted(labels) if "" not in labels and len(labels) > 1 else []
        names, told = _told(sources, prefixes, config.frames)
        rows = {name: n for n, name in enumerate(names)} if told else {}
        return cls(sources, items, list(_ranges(items, config)), classes, rows, told)

    def facts(self, sample: Sample) -> dict[str, Any]:
        """What is written of a sample as JSON."""
        facts: dict[str, Any] = {"name": sample.name, "width": sample.size[0], "height": sample.size[1]}
        if self.told:
            row = self.rows[sample.name]
            points = [None if math.isnan(sum(point)) else point for point in self.told.landmarks[row].tolist()]
            facts |= {"identity": str(self.told.identity[row]), "split": str(self.told.split[row]), "landmarks": points}
        return facts


def _prefix(path: Path) -> str:
    return "" if path.is_file() and path.suffix.lower() != ".zip" else f"{path.resolve().with_suffix('').name}/"


def _items(source: Source, prefix: str) -> Iterator[Item]:
    for names, is_video in ((source.names, False), (source.videos, True)):
        for name in names:
            path = PurePosixPath(name if is_video else str(PurePosixPath(name).with_suffix("")))
            key = f"{prefix}{path.with_name(path.name.replace('.', '_') or '_')}"
            yield Item(source, name, f"{prefix}{name}", key, "", is_video)


def _finished(items: list[Item]) -> list[Item]:
    """Items with their classes, and with numbers in their keys if two would have the same, as a.png beside a.jpg."""
    labels = read_folders([item.named for item in items]).label
    items = [item._replace(label=label) for item, label in zip(items, labels, strict=True)]
    if len({item.key for item in items}) == len(items):
        return items
    paths = [PurePosixPath(item.key) for item in items]
    return [
        item._replace(key=path.with_name(f"{n:08}_{path.name}").as_posix())
        for n, (item, path) in enumerate(zip(items, paths, strict=True))
    ]


def _ranges(items: list[Item], config: PackConfig) -> Iterator[tuple[int, int]]:
    """Items in order of which no shard has more pictures than --pictures, unless they are of one video."""
    first, held = 0, 0
    for n, item in enumerate(items):
        weight = config.frames if item.is_video else 1
        if held and held + weight > config.pictures:
            yield first, n
            first, held = n, 0
        held += weight
    yield first, len(items)


def _told(sources: list[Source], prefixes: list[str], frames: int) -> tuple[list[str], Told | None]:
    """What the tables of all sources say, and of which names in the set."""
    if not any(source.tables for source in sources):
        return [], None
    names, parts = list[str](), list[Told]()
    for source, prefix in zip(sources, prefixes, strict=True):
        own = [*source.names, *(f"{video}#{n}" for video in source.videos for n in range(frames))]
        names += [f"{prefix}{name}" for name in own]
        nothing = np.full(len(own), "")
        parts.append(
            read_told(source, own) if source.tables else Told(nothing, nothing, np.empty((len(own), 0, 2), np.float64))
        )
    counts = {part.landmarks.shape[1] for part, source in zip(parts, sources, strict=True) if source.tables}
    if len(counts) > 1:
        raise UserError(f"the sources have {' and '.join(map(str, sorted(counts)))} landmarks; pack them apart")
    L = counts.pop()
    points = [p.landmarks if p.landmarks.shape[1] else np.full((len(p.split), L, 2), np.nan) for p in parts]
    told = Told(
        np.concatenate([p.identity for p in parts]), np.concatenate([p.split for p in parts]), np.concatenate(points)
    )
    return names, told


def encoded(content: bytes, side: int) -> tuple[str, bytes, tuple[int, int]]:
    """A picture no larger than need be: its ending, its bytes, and the (width, height) it had.

    Raises:
        PictureError: it cannot be read.
    """
    picture, size = decode_reduced(content, at_least=3 * side)
    if min(size) <= side:
        with Image.open(io.BytesIO(content), formats=FORMATS) as original:
            if original.format in KEPT:
                return KEPT[original.format], content, size
        return "jpg", _jpeg(picture), size
    scale = side / min(size)
    smaller = (max(side, round(size[0] * scale)), max(side, round(size[1] * scale)))
    return "jpg", _jpeg(picture.resize(smaller, Image.Resampling.LANCZOS, reducing_gap=3.0)), size


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def samples(item: Item, config: PackConfig) -> list[Sample] | str:
    """What an item becomes, or why it cannot be read."""
    try:
        if not item.is_video:
            ending, content, size = encoded(item.source.read(item.name), config.side)
            return [Sample(item.key, ending, content, item.named, size)]
        frames: NDArray[np.uint8] = read_clip(item.source.path / item.name, config.side, config.frames)
    except (PictureError, VideoError) as error:
        return str(error)
    size = (config.side, config.side)
    return [
        Sample(f"{item.key}/{n:05}", "jpg", _jpeg(Image.fromarray(frame)), f"{item.named}#{n}", size)
        for n, frame in enumerate(frames)
    ]


def write_shard(
    path: Path, plan: Plan, items: list[Item], config: PackConfig, pool: ThreadPoolExecutor, bar: "tqdm[Any]"
) -> None:
    """Write a tar, which files it lacks and why, and then its index, each whole or not at all.

    A tar without an index counts as missing.
    """
    skipped: list[str] = []
    with atomic_path(path) as beside:
        with tarfile.open(beside, "w") as archive:
            for start in range(0, len(items), AT_ONCE):
                some = items[start : start + AT_ONCE]
                for item, found in zip(some, pool.map(lambda item: samples(item, config), some), strict=True):
                    if isinstance(found, str):
                        skipped.append(f"{item.named}: {found}\n")
                    else:
                        for sample in found:
                            _write(archive, plan, item, sample)
                    bar.update()
        if skipped:
            write_text(path.with_suffix(SKIPPED), "".join(skipped).encode(errors="backslashreplace").decode())
    scan(path).save(index_file(path), path)


def _write(archive: tarfile.TarFile, plan: Plan, item: Item, sample: Sample) -> None:
    files = {sample.ending: sample.content}
    if plan.classes:
        files["cls"] = str(plan.classes.index(item.label)).encode()
    files["json"] = json.dumps({"autolink": plan.facts(sample)}).encode()
    for ending, content in files.items():
        info = tarfile.TarInfo(f"{sample.key}.{ending}")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


def claim(out: Path, about: dict[str, Any]) -> None:
    """Begin a packing in a folder, or go on with one.

    Raises:
        UsageError: the folder holds something else, or another packing.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; give a folder")
    if (out / ABOUT).exists():
        try:
            there = parse_json((out / ABOUT).read_text(encoding="utf-8"))
        except ValueError:
            there = None
        if there != about:
            raise UsageError(f"--out {out} was packed from other files or with other options; choose another folder")
        return
    if out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise UsageError(f"--out {out} holds files that are no shards; choose an empty or new folder")
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / ABOUT, json.dumps(about, indent=1) + "\n")


def run(config: PackConfig) -> None:
    """The command: list, pack, say how much.

    Raises:
        UserError: nothing that can be read, or a folder that holds something else.
    """
    plan = Plan.of(config)
    count, digests = len(plan.shards), [source.digest() for source in plan.sources]
    options = {"side": config.side, "pictures": config.pictures, "frames": config.frames}
    claim(config.out, {"shards": count, **options, "sources": digests, "classes": plan.classes})
    digits = max(4, len(str(count - 1)))
    paths = [config.out / f"{n:0{digits}}.tar" for n in range(count)]
    with ThreadPoolExecutor(usable_cores()) as pool, tqdm(total=len(plan.items), unit="file") as bar:
        for path, (first, last) in zip(paths, plan.shards, strict=True):
            if path.exists() and index_file(path).exists():
                bar.update(last - first)
            else:
                write_shard(path, plan, plan.items[first:last], config, pool, bar)
    held = sum(len(read_index(path, None)) for path in paths)
    skipped = [line for path in paths for line in _skipped_lines(path)]
    if not held:
        raise UserError(f"none of the {len(plan.items)} files can be read; the first, {skipped[0]}")
    for line in skipped[:8]:
        print(f"warning: skipped {line}", file=sys.stderr)
    told = f"; {len(skipped)} files cannot be read, named in {config.out}/*{SKIPPED}" if skipped else ""
    print(f"{held} pictures in {count} shards{told}; {config.out}")


def _skipped_lines(path: Path) -> list[str]:
    try:
        return path.with_suffix(SKIPPED).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def main() -> None:
    """Entry point of `autolink pack`."""
    command(lambda: run(tyro.cli(PackConfig)))


if __name__ == "__main__":
    main()
