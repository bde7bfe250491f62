"""The session's folder: everything that the page uploads or makes lies in it, and nothing else is read or written."""

import json
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

from autolink.errors import UserError
from autolink.files import parse_json, write_text
from autolink.pictures import PictureError, decode_reduced, is_animated, is_picture
from autolink.video.files import video_facts

LARGEST_PICTURE, LARGEST_VIDEO = 64 * 2**20, 512 * 2**20
"""Bytes of an uploaded file at most."""

LARGEST_SESSION = 8 * 2**30
"""Bytes of all uploads together."""

LONGEST = 180.0
"""Seconds of an uploaded video at most."""

IDENTITY = re.compile(r"[0-9a-f]{16}")

SEEN_AT = 64
"""Pixels at which an upload is decoded to see whether it can be."""


@dataclass(frozen=True)
class Upload:
    """A file that the page gave."""

    id: str
    name: str
    kind: str
    """picture, video or motion."""
    width: int
    height: int
    seconds: float = 0.0
    rate: float = 0.0
    sound: bool = False


def new_identity() -> str:
    """A name for a folder that nobody can guess."""
    return secrets.token_hex(8)


def safe_name(name: str) -> str:
    """A file name without folders or signs that a system or an option could take for something else."""
    last = re.split(r"[/\\]", name)[-1]
    kept = re.sub(r"[^\w.+ -]", "_", last).strip(" .-")[-80:].lstrip(" .-")
    return kept or "file"


class Session:
    """A folder with `uploads/`, `jobs/` and `runs/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.uploads, self.jobs, self.runs = (self.folder / name for name in ("uploads", "jobs", "runs"))
        for part in (self.uploads, self.jobs, self.runs):
            part.mkdir(parents=True, exist_ok=True)

    def inside(self, part: Path, identity: str, name: str) -> Path:
        """A file that is there, below the folder of that identity in a part of the session.

        Raises:
            UserError: there is none.
        """
        folder = part / identity
        path = (folder / name).resolve()
        if not IDENTITY.fullmatch(identity) or not path.is_relative_to(folder) or not path.is_file():
            raise UserError(f"there is no file {safe_name(name)} here; it may have been deleted")
        return path

    def upload(self, identity: str) -> Upload:
        """What is known of an upload.

        Raises:
            UserError: there is none of that identity.
        """
        content = parse_json(self.inside(self.uploads, identity, "upload.json").read_text(encoding="utf-8"))
        return Upload(**content)

    def file_of(self, identity: str) -> Path:
        """The uploaded file itself."""
        return self.inside(self.uploads, identity, self.upload(identity).name)

    def adopt(self, folder: Path, name: str) -> Upload:
        """Look at the file of that name in a new upload's folder, and keep it or delete the folder.

        Raises:
            UserError: it is no picture or video, damaged, or too large or too long.
        """
        try:
            upload = inspect(folder / name, folder.name)
            write_text(folder / "upload.json", json.dumps(asdict(upload)))
        except UserError as error:
            shutil.rmtree(folder)
            raise UserError(str(error).replace(f"{folder}/", "")) from None
        return upload

    async def receive(self, name: str, body: AsyncIterator[bytes]) -> tuple[Path, str]:
        """Write an upload to a new folder as it comes in; the folder and the file's name.

        Raises:
            UserError: it is empty or too large; nothing is kept.
        """
        name = safe_name(name)
        if name == "upload.json":
            name = "upload-1.json"
        if sum(file.stat().st_size for file in self.uploads.glob("*/*")) > LARGEST_SESSION:
            raise UserError(f"the uploads in {self.uploads} are over {LARGEST_SESSION >> 30} GB; delete some of them")
        folder = self.uploads / new_identity()
        folder.mkdir()
        count = 0
        try:
            with (folder / name).open("xb") as file:
                async for piece in body:
                    count += len(piece)
                    if count > LARGEST_VIDEO:
                        raise UserError(f"{name} is over {LARGEST_VIDEO >> 20} MB; give a shorter or smaller one")
                    file.write(piece)
            if not count:
                raise UserError(f"{name} is empty")
        except BaseException:
            shutil.rmtree(folder)
            raise
        return folder, name


def inspect(path: Path, identity: str) -> Upload:
    """What an uploaded file is.

    Raises:
        UserError: it is no picture or video, damaged, or too large or too long.
    """
    if path.suffix.lower() == ".json":
        return _motion(path, identity)
    if is_picture(path) and not is_animated(path):
        if path.stat().st_size > LARGEST_PICTURE:
            raise UserError(f"{path.name} is over {LARGEST_PICTURE >> 20} MB; give a smaller picture")
        try:
            _, (width, height) = decode_reduced(path, SEEN_AT)
        except PictureError as error:
            raise UserError(f"{path.name} cannot be read as a picture: {error}") from None
        return Upload(identity, path.name, "picture", width, height)
    facts = video_facts(path)
    seconds = float((facts.frames or 0) / facts.rate)
    if seconds > LONGEST:
        raise UserError(
            f"{path.name} is {seconds:.0f} s long, more than {LONGEST:.0f}; cut it, or use `autolink transfer --start "
            "--end` on the command line"
        )
    return Upload(identity, path.name, "video", facts.width, facts.height, seconds, float(facts.rate), facts.audio)


def _motion(path: Path, identity: str) -> Upload:
    from autolink.video.motion import read_motion

    motion = read_motion(path)
    seconds = float(len(motion.keypoints) / motion.rate)
    return Upload(identity, path.name, "motion", motion.width, motion.height, seconds, float(motion.rate))
