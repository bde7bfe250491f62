"""Fetch the networks of `--judge mediapipe`: autolink eval prepare-judge [--out DIR] [--wheel FILE]."""

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import tyro

from autolink.errors import UsageError, UserError, command
from autolink.eval.mediapipe import FILES, RELEASE, judge_folder
from autolink.files import atomic_folder

DOWNLOAD = (
    "download", "--no-deps", "--only-binary", ":all:", "--python-version", "3.11", "--platform",
    "manylinux_2_28_x86_64", f"mediapipe=={RELEASE}",
)  # fmt: skip
"""One wheel for all: the networks in it are the same for every platform and Python."""


@dataclass(frozen=True)
class PrepareJudgeConfig:
    """Take MediaPipe's face networks out of its wheel, which is downloaded for that and not installed."""

    out: Path | None = None
    """Folder for the networks; by default what AUTOLINK_JUDGE names, else a folder in PyTorch's cache."""
    wheel: Path | None = None
    """The wheel of mediapipe 0.10.21, where there is no network; without it, pip downloads it."""
    overwrite: bool = False
    """Replace networks that are there."""


def download(folder: Path) -> Path:
    """Have pip download the wheel into a folder.

    Raises:
        UserError: there is no pip, or it did not get the wheel.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pip", *DOWNLOAD, "--dest", str(folder)], capture_output=True, text=True, check=False
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise UserError(
            f"pip could not download mediapipe {RELEASE} ({said}); get its wheel elsewhere and give it with --wheel"
        )
    return wheels[0]


def networks_in(wheel: Path) -> dict[str, bytes]:
    """The networks in a wheel, by name.

    Raises:
        UserError: it is no wheel, or not of that release.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            inside = {Path(name).name: name for name in archive.namelist()}
            found = {name: archive.read(inside[name]) for name in FILES}
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{wheel} is no whole wheel of mediapipe {RELEASE}: {error}") from None
    for name, content in found.items():
        if hashlib.sha256(content).hexdigest() != FILES[name]:
            raise UserError(f"{wheel} is not mediapipe {RELEASE}: the SHA-256 of {name} in it differs")
    return found


def run(config: PrepareJudgeConfig) -> None:
    """The command: fetch, check, write."""
    out = config.out or judge_folder()
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is no folder")
    there = [name for name in FILES if (out / name).exists()]
    if there and not config.overwrite:
        raise UsageError(f"{out / there[0]} exists; choose another --out or add --overwrite")
    if config.wheel and not config.wheel.is_file():
        raise UsageError(f"--wheel {config.wheel} does not exist; give the wheel of mediapipe {RELEASE}")
    with TemporaryDirectory() as beside:
        found = networks_in(config.wheel or download(Path(beside)))
    with atomic_folder(out) as folder:
        for name, content in found.items():
            (folder / name).write_bytes(content)
    hint = "" if out == judge_folder() else f"; set AUTOLINK_JUDGE={out} to use them"
    print(f"{len(found)} networks of mediapipe {RELEASE} in {out}{hint}")


def main() -> None:
    """Entry point of `python eval/prepare_judge.py`."""
    command(lambda: run(tyro.cli(PrepareJudgeConfig)))


if __name__ == "__main__":
    main()
