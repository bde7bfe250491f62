"""Tar shards in the webdataset layout: which there are, and where in them each picture lies.

0000.tar          KEY.jpg, KEY.cls (number of the class) and KEY.json for each picture, one after the other
0000.index.npz    where the pictures begin and what KEY.json says of them; optional, without it the tar is read through
"""

import hashlib
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from autolink.data.landmarks import Told
from autolink.errors import UsageError, UserError
from autolink.files import atomic_path, parse_json
from autolink.pictures import DAMAGE, PICTURES, PictureError, upright_size, warn_once

ABOUT = "pack.json"
"""What `autolink pack` keeps in the folder of its shards, among it how many there are to be."""

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Facts(BaseModel):
    """What KEY.json holds of a picture under `autolink`."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    name: str
    """Where it came from, relative to its folder: its class and whether it is held out follow from it."""
    width: int
    """Of the picture before it was made smaller, as of its landmarks."""
    height: int
    identity: str = ""
    split: Literal["train", "test", ""] = ""
    landmarks: list[list[float] | None] = []
    """[x, y] in pixels of the picture before it was made smaller, null where not annotated."""


class Entry(NamedTuple):
    """A picture in a tar."""

    offset: int
    length: int
    facts: Facts


@dataclass(frozen=True)
class Index:
    """The N pictures of a shard."""

    names: NDArray[np.str_]
    """(N,)."""
    offsets: NDArray[np.int64]
    """(N,), the first byte of each in the tar."""
    lengths: NDArray[np.int64]
    """(N,), in bytes."""
    sizes: NDArray[np.int32]
    """(N, 2), (width, height) before they were made smaller."""
    identity: NDArray[np.str_]
    """(N,)."""
    split: NDArray[np.str_]
    """(N,), train, test or empty."""
    landmarks: NDArray[np.float64]
    """(N, L, 2), (x, y) in pixels, NaN where not annotated."""

    @classmethod
    def of(cls, path: Path, entries: list[Entry]) -> "Index":
        """The index of pictures; those without any landmark may stand among others that have some.

        Raises:
            UserError: they have different numbers of landmarks.
        """
        facts = [entry.facts for entry in entries]
        counts = {len(one.landmarks) for one in facts} - {0}
        if len(counts) > 1:
            raise UserError(f"{path}: pictures have {' and '.join(map(str, sorted(counts)))} landmarks; pack it again")
        L = max(counts, default=0)
        nowhere = [float("nan")] * 2
        points = [[point or nowhere for point in one.landmarks] or [nowhere] * L for one in facts]
        return cls(
            np.array([one.name for one in facts], np.str_),
            np.array([entry.offset for entry in entries], np.int64),
            np.array([entry.length for entry in entries], np.int64),
            np.array([(one.width, one.height) for one in facts], np.int32).reshape(-1, 2),
            np.array([one.identity for one in facts], np.str_),
            np.array([one.split for one in facts], np.str_),
            np.array(points, np.float64).reshape(len(facts), L, 2),
        )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def told(self) -> Told | None:
        """What a landmarks.csv said; None where there was none."""
        known = self.landmarks.shape[1] > 0 or (self.split != "").any()
        return Told(self.identity, self.split, self.landmarks) if known else None

    def save(self, path: Path, tar: Path) -> None:
        """Write it, with the size of the tar that it is of."""
        with atomic_path(path) as beside, beside.open("wb") as file:
            np.savez(file, tar=tar.stat().st_size, **vars(self))

    @classmethod
    def load(cls, path: Path, tar: Path) -> "Index | None":
        """What `save` wrote of a tar; None where it is missing, damaged or of another one."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                index = cls(**{field.name: arrays[field.name] for field in fields(cls)})
                whole = all(len(array) == len(index) for array in vars(index).values())
                return index if whole and int(arrays["tar"]) == tar.stat().st_size else None
        except DAMAGE:
            return None


def index_file(tar: Path) -> Path:
    """Where `autolink pack` writes the index of a shard."""
    return tar.with_suffix(".index.npz")


def joined(indices: list[Index], paths: list[Path]) -> Index:
    """The pictures of all shards, one shard after the other.

    Raises:
        UserError: they have different numbers of landmarks.
    """
    counts = {index.landmarks.shape[1]: path for index, path in zip(indices, paths, strict=True) if len(index)}
    if len(counts) > 1:
        told = " and ".join(f"{path} has {count}" for count, path in counts.items())
        raise UserError(f"{told} landmarks; all shards of one data set must have the same")
    some = [index for index in indices if len(index)]
    return Index(*(np.concatenate([getattr(index, field.name) for index in some]) for field in fields(Index)))


def names_shards(data: str) -> bool:
    """Whether `--data` names tar shards: a .tar, a pattern as {0000..0999}.tar, or a folder that holds some."""
    path = Path(data)
    return path.suffix.lower() == ".tar" or (path.is_dir() and next(path.glob("*.tar"), None) is not None)


def find_shards(data: str) -> list[Path]:
    """The tars that `--data` names, in order.

    Raises:
        UserError: one is missing, or a folder is not packed to its end.
    """
    path = Path(data)
    if path.is_dir():
        found = sorted(file for file in path.glob("*.tar") if not file.name.startswith("."))
        wanted = _promised(path)
        if wanted > len(found):
            raise UserError(f"{path} holds {len(found)} of its {wanted} shards; run autolink pack again")
        return found
    found = [Path(name) for name in expanded(data)]
    missing = [file for file in found if not file.is_file()]
    if missing:
        others = f", nor do {len(missing) - 1} others" if len(missing) > 1 else ""
        raise UsageError(f"{missing[0]} does not exist{others}; give shards that are there, as {{0000..0009}}.tar")
    return found


def _promised(folder: Path) -> int:
    """How many shards a folder is to hold; 0 where that is not known."""
    try:
        return int(parse_json((folder / ABOUT).read_text(encoding="utf-8"))["shards"])
    except DAMAGE:
        return 0


def expanded(pattern: str) -> Iterator[str]:
    """The names that a pattern with {0000..0999} means; a pattern without is a name.

    Raises:
        UsageError: a range runs backwards.
    """
    found = RANGE.search(pattern)
    if found is None:
        yield pattern
        return
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise UsageError(f"--data {pattern}: {found[0]} runs backwards; write {{{found[2]}..{found[1]}}}")
    for number in range(first, last + 1):
        yield from expanded(f"{pattern[: found.start()]}{number:0{len(found[1])}}{pattern[found.end() :]}")


def read_index(tar: Path, cache: Path | None) -> Index:
    """The pictures of a shard: from the index beside it, from `cache`, a folder, or by reading the tar through.

    Raises:
        UserError: it is no uncompressed tar, or says of a picture what cannot be.
    """
    index = Index.load(index_file(tar), tar)
    if index is None and cache:
        state = tar.stat()
        key = hashlib.sha256(f"{tar.absolute()} {state.st_size} {state.st_mtime_ns}".encode(errors="surrogateescape"))
        kept = cache / f"shard-{key.hexdigest()[:16]}.index.npz"
        index = Index.load(kept, tar)
        if index is None:
            cache.mkdir(parents=True, exist_ok=True)
            index = scan(tar)
            index.save(kept, tar)
    return scan(tar) if index is None else index


def scan(tar: Path) -> Index:
    """The pictures of a shard by reading it through, ours or any other in the webdataset layout.

    Of a picture without our KEY.json the name is its key, in a folder named after KEY.cls where there is one. Pictures
    whose header cannot be read are left out, and that is logged.

    Raises:
        UserError: it is no uncompressed tar, or says of a picture what cannot be.
    """
    entries: list[Entry] = []
    damaged: dict[str, str] = {}
    try:
        with tarfile.open(tar, "r:") as archive:
            for key, members in _samples(archive):
                picture = min((ending for ending in members if _is_picture(ending)), default=None, key=len)
                if picture is not None:
                    try:
                        entries.append(_entry(archive, tar, key, picture, members))
                    except PictureError as error:
                        damaged[f"{key}.{picture}"] = str(error)
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{tar} is no uncompressed tar, or damaged ({error}); pack it again") from None
    if damaged:
        name, reason = next(iter(damaged.items()))
        warn_once(f"{tar}: {len(damaged)} pictures cannot be read and were skipped, such as {name}: {reason}")
    return Index.of(tar, entries)


def _is_picture(ending: str) -> bool:
    return f".{ending.rpartition('.')[2].lower()}" in PICTURES


def _samples(archive: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """The files of each key by their endings; a key is a path up to the first dot of the file's name."""
    key, members = "", dict[str, tarfile.TarInfo]()
    while (info := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # undocumented; else it keeps them all
        if not info.isfile():
            continue
        path = PurePosixPath(info.name)
        stem, _, ending = path.name.partition(".")
        here = path.with_name(stem).as_posix() if stem else info.name
        if here != key and members:
            yield key, members
            members = {}
        key = here
        members[ending] = info
    if members:
        yield key, members


def _entry(archive: tarfile.TarFile, tar: Path, key: str, ending: str, members: dict[str, tarfile.TarInfo]) -> Entry:
    def content(name: str) -> bytes:
        file = archive.extractfile(members[name])
        return file.read() if file else b""

    picture = members[ending]
    try:
        values = parse_json(content("json")) if "json" in members else None
        if isinstance(values, dict) and "autolink" in values:
            facts = Facts.model_validate(values["autolink"])
            if not all(point is None or len(point) == 2 for point in facts.landmarks):
                raise ValueError("a landmark is no [x, y]")
        else:
            width, height = upright_size(content(ending))
            folder = content("cls").decode(errors="replace").strip().replace("/", "_") if "cls" in members else ""
            facts = Facts(name=f"{folder}/{key}.{ending}" if folder else f"{key}.{ending}", width=width, height=height)
    except (ValueError, ValidationError) as error:
        told = "; ".join(str(error).splitlines()[:3])
        raise UserError(f"{tar}: {key}.json is not what autolink pack writes ({told}); pack it again") from None
    return Entry(picture.offset_data, picture.size, facts)


def shard_names(data: str) -> list[str]:
    """The names of all pictures of the shards that `--data` names."""
    return [name for path in find_shards(data) for name in read_index(path, None).names.tolist()]
