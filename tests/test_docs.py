"""Every command in README and docs runs, on tiny data; training is cut to a few steps."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import TINY

from autolink.data.figures import figure_clip
from video.files import VideoWriter

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


ALL = sorted({command for page in PAGES for command in commands(page)})


def test_there_are_commands() -> None:
    assert {"make demo", "make test"} < set(ALL)


@pytest.mark.parametrize("command", [c for c in ALL if not c.startswith(("make", "git", "cd"))])
def test_the_command_runs(command: str, pictures: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    words = shlex.split(command)
    for name in ("my_pictures", "my_faces", "my_cats"):
        (tmp_path / name).symlink_to(pictures)
    with VideoWriter(tmp_path / "my_video.mp4", Fraction(25)) as writer:
        for frame in figure_clip(5, 1, 64)[0]:
            writer.write(frame)
    for name in ("train_autolink.py", "eval", "checkpoints", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    if "train_autolink.py" in words:
        prefix = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--quiet"]
        assert words[:2] == ["accelerate", "launch"]
        if "--resume" in words:
            started = [*prefix, "train_autolink.py", "--data", "my_pictures", "--out", words[-1], *TINY]
            run(started, tmp_path)
            words = prefix + words[2:]
        else:
            words = prefix + words[2:] + TINY
    else:
        assert words[0] == "python"
        words[0] = sys.executable
        shutil.copytree(tiny_checkpoint, tmp_path / "runs" / "mine" / "model")
        if words[1].startswith("benchmarks"):
            pytest.skip("benchmarks measure; they are run by hand")
    run(words, tmp_path)


def run(words: list[str], folder: Path) -> None:
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
