"""Where pictures lie, a folder or a zip, and what is used of each; read one by one."""

import hashlib
import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from PIL import Image

from autolink.data.picture import Box
from autolink.errors import UsageError, UserError
from autolink.pictures import (
    DAMAGE,
    PICTURES,
    VIDEOS,
    PictureError,
    decode_picture,
    files_below,
    is_animated,
    is_hidden,
    is_picture,
    warn_once,
)

TABLE = "landmarks.csv"
"""Annotation of pictures, beside them."""

OTHER_TABLES = frozenset({"dataset.json", "metadata.csv", "metadata.jsonl", "metadata.parquet"})
"""Annotation files of StyleGAN's tool and the Hub's image folders."""

MOVING = frozenset({".gif", ".webp", ".apng", ".avif"})
"""Endings of pictures that may be animations, which are videos where videos are wanted."""

LARGEST_FILE = 2**29
"""Bytes of the largest picture file that is read."""


@dataclass(frozen=True)
class Source:
    """Pictures that can be read one by one."""

    path: Path
    """The folder or zip."""
    names: list[str]
    """Pictures in it, relative, sorted."""
    tables: list[str]
    """Its landmarks.csv, one or several."""
    videos: list[str] = field(default_factory=list)
    """Videos in the folder, if they were asked for."""
    crops: dict[str, Box] = field(default_factory=dict)
    """The part of a picture that is used, where it is not all."""
    masks: dict[str, str] = field(default_factory=dict)
    """The file that is white where a picture is kept; grey takes the place of the rest."""
    members: dict[str, str] = field(default_factory=dict)
    """What a name is called in the zip; empty of a folder."""

    @classmethod
    def find(cls, path: Path, videos: bool = False) -> "Source":
        """The pictures below a folder or inside a zip; with `videos`, those below a folder as well, or a video itself.

        What is neither is skipped, and that is logged.

        Raises:
            UserError: there is no such folder or zip, or nothing of that in it.
        """
        if not path.exists():
            raise UsageError(f"{path} does not exist; give a folder or a zip of pictures")
        if path.is_file() and path.suffix.lower() == ".zip":
            return _find_in_zip(path)
        if videos and path.is_file() and is_video(path):
            return cls(path.parent, [], [], [path.name])
        if not path.is_dir():
            raise UsageError(f"{path} is neither a folder nor a zip of pictures")
        return _find_in_folder(path, videos)

    @classmethod
    def of(cls, path: Path) -> "Source":
        """A picture file alone, or what `find` finds.

        Raises:
            UserError: there is nothing of that kind.
        """
        if not path.is_file() or path.suffix.lower() == ".zip":
            return cls.find(path)
        if path.suffix.lower() not in PICTURES and not is_picture(path):
            raise UsageError(f"{path} is no picture, folder or zip of pictures")
        return cls(path.parent, [path.name], [])

    @cached_property
    def archive(self) -> zipfile.ZipFile:
        """The opened zip: reading its table again for each picture takes longer than all pictures together."""
        return zipfile.ZipFile(self.path)

    def read(self, name: str) -> bytes:
        """The content of one file.

        Raises:
            PictureError: it cannot be read; the message says why.
        """
        try:
            if self.members:
                info = self.archive.getinfo(self.members[name])
                _check_size(info.file_size)
                return self.archive.read(info)
            state = (self.path / name).stat()
            if not stat.S_ISREG(state.st_mode):
                raise PictureError("it is no regular file")
            _check_size(state.st_size)
            return (self.path / name).read_bytes()
        except OSError as error:
            raise PictureError(error.strerror or str(error)) from None
        except DAMAGE as error:
            told = "encrypted" if "encrypted" in str(error) else f"damaged in the zip: {error}"
            raise PictureError(told) from None

    def picture(self, name: str) -> Image.Image:
        """One picture as `decode_picture` makes it.

        Raises:
            PictureError: it cannot be read; the message says why.
        """
        return decode_picture(self.read(name))

    def prepared(self, name: str, picture: Image.Image) -> Image.Image:
        """A picture cut and masked as `crops` and `masks` say.

        Raises:
            PictureError: its mask cannot be read.
        """
        if name in self.masks:
            try:
                mask = self.picture(self.masks[name])
            except PictureError as error:
                raise PictureError(f"its mask {self.masks[name]}: {error}") from None
            ground = Image.new("RGB", picture.size, (128, 128, 128))
            picture = Image.composite(picture, ground, mask.convert("L").resize(picture.size))
        return picture.crop(self.crops[name]) if name in self.crops else picture

    def digest(self) -> str:
        """Changes when any picture does: a hash of names, sizes and times."""
        if self.members:
            state = self.path.stat()
            text = f"{state.st_size} {state.st_mtime_ns}"
        else:
            text = "\n".join(f"{name} {_stamp(self.path / name)}" for name in self.names + self.videos)
        if self.crops or self.masks:
            text += f"\n{sorted(self.crops.items())} {sorted(self.masks.items())}"
        return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _find_in_folder(path: Path, videos: bool) -> Source:
    found = sorted(file.relative_to(path).as_posix() for file in files_below(path))
    clips = [name for name in found if videos and is_video(path / name)]
    return _sorted(path, found, lambda name: is_picture(path / name), clips, {}, videos)


def _find_in_zip(path: Path) -> Source:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {}
            for info in archive.infolist():
                name = info.filename.replace("\\", "/")  # as some programs of Windows separate
                if not name.endswith("/") and not _leads_out(name) and not is_hidden(name):
                    members[name] = info.filename

            def is_picture_inside(name: str) -> bool:
                try:
                    with archive.open(members[name]) as file:
                        return is_picture(file)
                except DAMAGE:
                    return False

            return _sorted(path, sorted(members), is_picture_inside, [], members, False)
    except DAMAGE as error:
        raise UserError(f"{path} is not a readable zip ({error}); pack it again") from None


def _sorted(
    path: Path,
    found: list[str],
    looks_so: Callable[[str], bool],
    clips: list[str],
    members: dict[str, str],
    videos: bool,
) -> Source:
    """The source that files are, by their endings and, where those are unknown, by what they look like inside.

    Raises:
        UserError: there is nothing to read.
    """
    names, tables, others = [], [], []
    taken = set(clips)
    for name in found:
        suffix = PurePosixPath(name).suffix.lower()
        if name in taken:
            continue
        if PurePosixPath(name).name == TABLE:
            tables.append(name)
        elif suffix in PICTURES or (suffix not in VIDEOS and looks_so(name)):
            names.append(name)
        else:
            others.append(name)
    _tell_rest(path, others)
    if not names and not clips:
        raise UserError(f"{path} holds no pictures" + " and no videos" * videos)
    return Source(path, names, tables, clips, members=members)


def is_video(path: Path) -> bool:
    """Whether a file is a video by its ending, or an animated picture."""
    suffix = path.suffix.lower()
    return is_animated(path) if suffix in MOVING else suffix in VIDEOS


def _tell_rest(path: Path, others: list[str]) -> None:
    """Log what is skipped: how many files of which endings, and tables of others that could be meant."""
    if others:
        kinds = Counter(PurePosixPath(name).suffix.lower() or "without ending" for name in others).most_common(5)
        endings = ", ".join(f"{count} {kind}" for kind, count in kinds)
        files = "file is no picture and was" if len(others) == 1 else "files are no pictures and were"
        warn_once(f"{path}: {len(others)} {files} skipped: {endings}, such as {others[0]}")
    for name in others:
        if PurePosixPath(name).name in OTHER_TABLES:
            warn_once(
                f"{path}: {name} is not read; classes come from folders, landmarks and the test part from {TABLE}"
            )


def _check_size(size: int) -> None:
    """Refuse a file too large to be a picture.

    Raises:
        PictureError: it is.
    """
    if size > LARGEST_FILE:
        raise PictureError(f"it is too large, {size / 1e6:.0f} MB; at most {LARGEST_FILE / 1e6:.0f} MB are read")


def _leads_out(name: str) -> bool:
    """Whether a name in a zip is absolute or leads out of it."""
    return name.startswith("/") or re.match("[A-Za-z]:", name) is not None or ".." in PurePosixPath(name).parts


def _stamp(path: Path) -> str:
    """Size and time of a file; a link that leads nowhere has none."""
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"{state.st_size} {state.st_mtime_ns}"
