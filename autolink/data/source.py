"""Where pictures lie, a folder or a zip, and what is used of each; read one by one."""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from PIL import Image

from autolink.data.picture import Box, read_picture
from autolink.errors import UsageError, UserError
from autolink.video import files as video

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

TABLE = "landmarks.csv"
"""What is told of pictures, beside them."""


class Unreadable(Exception):
    """A file of a source that cannot be read; the message says why."""


@dataclass(frozen=True)
class Source:
    """Pictures that can be read one by one."""

    path: Path
    """The folder or zip."""
    names: list[str]
    """Pictures in it, relative, sorted."""
    tables: list[str]
    """Its landmarks.csv, if any."""
    videos: list[str] = field(default_factory=list)
    """Videos in the folder, if they were asked for."""
    is_zip: bool = False
    crops: dict[str, Box] = field(default_factory=dict)
    """The part of a picture that is used, where it is not all."""
    masks: dict[str, str] = field(default_factory=dict)
    """The file that is white where a picture is kept; grey takes the place of the rest."""

    @classmethod
    def find(cls, path: Path, videos: bool = False) -> "Source":
        """The pictures below a folder or inside a zip; with `videos`, those below a folder as well.

        Raises:
            UserError: there is no such folder or zip, or nothing of that in it.
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
        clips = [name for name in names if PurePosixPath(name).suffix.lower() in video.SUFFIXES]
        clips = clips if videos and not is_zip else []
        if not pictures and not clips:
            raise UserError(f"{path} holds no jpg, png or webp pictures" + (" and no videos" if videos else ""))
        tables = [name for name in names if PurePosixPath(name).name == TABLE]
        return cls(path, pictures, tables, clips, is_zip)

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
            text = "\n".join(f"{name} {_stamp(self.path / name)}" for name in self.names + self.videos)
        if self.crops or self.masks:
            text += f"\n{sorted(self.crops.items())} {sorted(self.masks.items())}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


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
