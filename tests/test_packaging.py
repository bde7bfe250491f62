"""What is installed, and who imports whom."""

import ast
import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

import autolink
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
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sdist, made from the files that a clone has, and of the wheel, made from the sdist."""
    clone, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("dist")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.check_output(listed, cwd=ROOT, text=True).split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(clone)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


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


@pytest.mark.slow
def test_pypi_and_pip_take_what_is_built(built: Path, wheel: Path) -> None:
    """`make release-check` does the same in the clone."""
    checks = [["twine", "check", "--strict", *map(str, built.iterdir())], ["check_wheel_contents", str(wheel)]]
    for words in checks:
        done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {autolink.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{autolink.__version__}] - 20" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.slow
def test_names_and_versions_agree(built: Path, wheel: Path) -> None:
    name, version = "autolink-keypoints", autolink.__version__
    assert {path.name for path in built.iterdir()} == {
        f"autolink_keypoints-{version}.tar.gz", f"autolink_keypoints-{version}-py3-none-any.whl",
    }  # fmt: skip
    with zipfile.ZipFile(wheel) as held:
        about = f"autolink_keypoints-{version}.dist-info"
        said = Parser().parsestr(held.read(f"{about}/METADATA").decode())
        assert (said["Name"], said["Version"], said["License-Expression"]) == (name, version, "MIT")
        links = re.findall(r"\]\(([^)]+)\)", str(said.get_payload()))
        assert len(links) > 10 and all(link.startswith("https://") for link in links)
        for text in ("LICENSE", "CITATION.cff"):
            assert held.read(f"{about}/licenses/{text}") == (ROOT / text).read_bytes()
    installs = [
        line for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for line in re.findall(r"pip install '?\"?(autolink[\w-]*)", page.read_text())
    ]  # fmt: skip
    assert len(installs) > 5 and set(installs) == {name}


@pytest.mark.slow
def test_the_sdist_holds_what_make_needs(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as held:
        names = {name.partition("/")[2] for name in held.getnames()}
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split()
    left_out = {name for name in tracked if name not in names and (ROOT / name).is_file()}
    assert not {name for name in left_out if not name.startswith(".")}, left_out


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
def test_the_installed_studio_serves_its_page_and_ends(installed: Path, tmp_path: Path) -> None:
    words = [str(installed / "bin" / "autolink"), "studio", "--port", "0", "--no-browser"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as studio:
        try:
            assert studio.stdout
            address = re.findall(r"http://127\.0\.0\.1:\d+/", studio.stdout.readline())[0]
            with urllib.request.urlopen(address, timeout=120) as answer:
                page = answer.read().decode()
            parts = re.findall(r'(?:src|href)="/?([\w.-]+\.\w+)"', page)
            assert len(parts) >= 2
            for part in parts:
                urllib.request.urlopen(address + part, timeout=120).close()
        finally:
            studio.send_signal(signal.SIGINT)
        assert studio.wait(300) in (0, 130)
    assert "<title>" in page and not (installed / "network.log").exists()


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
