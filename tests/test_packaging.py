"""What is installed, and who imports whom."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from autolink.data.figures import figure_clip
from autolink.video.writer import VideoWriter

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "autolink": "autolink", "generation": "autolink.generation", "video": "autolink.video", "eval": "autolink.eval",
}  # fmt: skip
FLOORS = [
    {"autolink.errors", "autolink.files", "autolink.inputs", "autolink.pictures"},
    {"autolink.video"},
    {"autolink"},
    {"autolink.generation"},
    {"autolink.eval"},
    {"autolink.studio"},
    {"autolink.__init__", "autolink.cli"},
]
"""From the ground up; a module belongs to the floor of its longest prefix, and imports from none above its own."""

LARGEST_WHEEL = 40e6


def modules() -> Iterator[tuple[str, Path]]:
    """Every module as it is imported, and its file."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if package == "autolink" or parts[-1] != "__init__":
                yield ".".join((package, *parts)), path
            else:
                yield ".".join((package, *parts[:-1])), path


def imported(path: Path) -> Iterator[str]:
    """The full names that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(name: str) -> int:
    found = [
        (len(prefix), n) for n, level in enumerate(FLOORS) for prefix in level if f"{name}.".startswith(f"{prefix}.")
    ]
    return max(found)[1]


def test_nothing_imports_from_a_floor_above() -> None:
    known = {name for name, _ in modules()}
    assert {"autolink.model", "autolink.eval.report", "autolink.video.files"} <= known
    wrong = [
        f"{name} imports {target}"
        for name, path in modules()
        for target in imported(path)
        if target.startswith("autolink.") and floor(target) > floor(name)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_is_imported_under_a_second_name() -> None:
    """`import video` would find the folder in a clone and load autolink.video again."""
    old = re.compile(r"^\s*(?:from|import) (?:generation|video|eval)\b|-m (?:generation|video|eval)\.", re.MULTILINE)
    files = [path for folder in (*FOLDERS, "benchmarks", "docs", "tests") for path in (ROOT / folder).rglob("*.*")]
    texts = [path for path in [*files, *ROOT.glob("*.*")] if path.suffix in {".py", ".md"}]
    assert len(texts) > 100
    assert not [str(path) for path in texts if old.search(path.read_text())]


def test_every_package_is_installed() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    found = {package for _, path in modules() for package in [_package(path)]}
    assert listed == found | {"autolink.bundled"}


def _package(path: Path) -> str:
    top, *inner = path.parent.relative_to(ROOT).parts
    return ".".join((FOLDERS[top], *inner))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the sdist, made from the files that a clone has."""
    clone, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("dist")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.check_output(listed, cwd=ROOT, text=True).split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(clone)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel, sees the dependencies of this one, and keeps a list of network accesses."""
    environment = tmp_path_factory.mktemp("installed")
    uv = [sys.executable, "-m", "uv", "--quiet", "--offline"]
    subprocess.run([*uv, "venv", "--python", sys.executable, environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run([*uv, "pip", "install", "--python", python, "--no-deps", wheel], check=True)
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "no_network.py").write_text(GUARD.format(log=str(environment / "network.log")))
    # a folder named in a .pth file is searched, but its own .pth files, and so the editable install, are not read
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\nimport no_network\n")
    return environment


GUARD = """
import socket

connect = socket.socket.connect

def refuse(asked):
    with open({log!r}, "a") as log:
        log.write(f"{{asked}}\\n")
    raise OSError("no network here")

def guarded(self, address):
    return connect(self, address) if self.family == socket.AF_UNIX else refuse(address)

socket.socket.connect = socket.socket.connect_ex = guarded
socket.getaddrinfo = lambda *asked, **_: refuse(asked)
"""


@pytest.mark.slow
def test_the_wheel_holds_the_package_with_its_checkpoints(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"autolink", "-".join(wheel.name.split("-")[:2]) + ".dist-info"}
    assert "autolink/py.typed" in names
    tracked = [path.relative_to(ROOT / "checkpoints") for path in (ROOT / "checkpoints").rglob("*.*")]
    assert {f"autolink/bundled/{path.as_posix()}" for path in tracked} == {n for n in names if "/bundled/" in n}
    templates = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.j2")}
    assert templates == {Path(name).name for name in names if name.endswith(".j2")}
    page = {f"autolink/studio/page/{path.name}" for path in (ROOT / "autolink/studio/page").iterdir()}
    assert page == {name for name in names if "/page/" in name}
    assert wheel.stat().st_size < LARGEST_WHEEL


COMMANDS = [
    "demo",
    "transfer --src source.png --driver driver.mp4 --out moved.mp4",
    "sample --grid grid.png",
    "train --dry-run",
    "eval report --checkpoints figures-transfer --clips 2 --frames 2",
]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_installed_command_runs_anywhere_without_network(command: str, installed: Path, tmp_path: Path) -> None:
    frames = figure_clip(5, 0, 96)[0]
    Image.fromarray(figure_clip(1, 1, 96)[0][0]).save(tmp_path / "source.png")
    with VideoWriter(tmp_path / "driver.mp4", Fraction(25)) as writer:
        for frame in frames:
            writer.write(frame)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment = {**kept, "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    words = [str(installed / "bin" / "autolink"), *command.split()]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert not (installed / "network.log").exists(), (installed / "network.log").read_text()
    for made in ("moved.mp4", "grid.png"):
        assert (tmp_path / made).is_file() == (made in command)


@pytest.mark.slow
def test_the_installed_package_is_not_the_clone(installed: Path) -> None:
    code = "import autolink.eval.report as r, autolink.checkpoints as c; print(r.__file__, *c.bundled().values())"
    said = subprocess.check_output([installed / "bin" / "python", "-c", code], cwd="/", text=True).split()
    assert len(said) > 5
    assert all(Path(path).is_relative_to(installed) for path in said), said


@pytest.mark.slow
def test_the_network_guard_holds(installed: Path, tmp_path: Path) -> None:
    code = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')"
    done = subprocess.run([installed / "bin" / "python", "-c", code], capture_output=True, text=True, check=False)
    log = installed / "network.log"
    assert done.returncode and "no network here" in done.stderr and log.read_text()
    log.unlink()
