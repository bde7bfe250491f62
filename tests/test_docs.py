"""Every command in README and docs runs, on tiny data; training is cut to a few steps."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, TINY_GAN, TINY_TRANSFER
from faces import drawn_face
from PIL import Image
from test_afhq import miniature
from test_convert import PARAMETERS, Restated, save
from test_mediapipe import PREPARED
from test_published import celeba

from autolink import pack
from autolink.cli import COMMANDS
from autolink.data.figures import figure_clip
from autolink.eval import report
from autolink.eval.feature_networks import Extractor
from autolink.eval.fid import Side, save_statistics
from autolink.eval.report import ReportConfig
from autolink.eval.reporting.render import BEGIN, END
from autolink.pack import PackConfig
from autolink.video.motion import Motion, write_motion
from autolink.video.writer import VideoWriter

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


ALL = sorted({command for page in PAGES for command in commands(page)})


def test_there_are_commands() -> None:
    assert {"make demo", "make test"} < set(ALL)


def test_the_results_are_of_the_bundled_weights() -> None:
    told = dict(re.findall(r"^- `([\w-]+)`: .* weights ([0-9a-f]{12});", RESULTS.read_text(), re.MULTILINE))
    assert told.keys() >= {"figures", "faces", "figures-transfer", "faces-transfer", "pets-gan"}
    for name, digest in told.items():
        weights = (ROOT / "checkpoints" / name / "model.safetensors").read_bytes()
        assert hashlib.sha256(weights).hexdigest().startswith(digest), f"measure {name} again: its weights are others"


def prepare(folder: Path, pictures: Path, scenes: Path, tiny_checkpoint: Path) -> None:
    """The files that the commands name."""
    (folder / "my_pictures").symlink_to(pictures)
    (folder / "my_faces").symlink_to(scenes)
    (folder / "my_clips").mkdir()
    for seed, name in enumerate(("my_video.mp4", "my_pose.mp4", "my_clips/a.mp4", "my_clips/b.mp4")):
        with VideoWriter(folder / name, Fraction(25)) as writer:
            for frame in figure_clip(5, seed, 96)[0]:
                writer.write(frame)
    Image.fromarray(figure_clip(1, 9, 96)[0][0]).save(folder / "my_photo.png")
    track = np.random.default_rng(0).uniform(20, 70, (3, 24, 2))
    write_motion(folder / "pose.json", Motion(track, Fraction(25), 96, 96))
    for name in ("train_autolink.py", "eval", "generation", "checkpoints", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "my_talk").symlink_to(folder / "my_clips")
    for name in ("mine", "faces", "pets", "talk", "talk-2"):
        shutil.copytree(tiny_checkpoint, folder / "runs" / name / "model")
    shutil.copytree(ROOT / "checkpoints" / "figures-transfer", folder / "runs" / "mine-transfer" / "model")


def prepare_gan(folder: Path, animals: Path, tiny_gan: Path, tiny_checkpoint: Path) -> None:
    """The files that the commands on the GAN name."""
    (folder / "my_animals").symlink_to(animals)
    miniature(folder, "v1", zipped=True)
    for name in ("mine-gan", "pets-gan", "pets-gan-2"):
        shutil.copytree(tiny_gan, folder / "runs" / name / "model")
    for name in ("mine-judge", "judge-1", "outlines-1", "outlines-2", "outlines-3", "afhq"):
        shutil.copytree(tiny_checkpoint, folder / "runs" / name / "model")


def prepare_sets(folder: Path, pictures: Path) -> None:
    """The pictures that the commands on distances of sets and pairs name."""
    for name in ("my_copies", "my_samples"):
        shutil.copytree(pictures, folder / name)
    for structure in ("a", "b"):
        (folder / "my_structures" / structure).mkdir(parents=True)
        for n, image in enumerate(figure_clip(2, ord(structure), 32)[0]):
            Image.fromarray(image).save(folder / "my_structures" / structure / f"{n}.png")
    features = np.random.default_rng(0).random((8, 1280), np.float32)
    extractor = Extractor("efficientnet-lite0", torch.nn.Identity(), 224, 1280, torch.device("cpu"))
    save_statistics(folder / "real.npz", Side(features, "my_pictures", {}), extractor)


def prepare_heads(folder: Path) -> None:
    """Clips of ten people who speak and blink."""
    if not PREPARED:
        pytest.skip("autolink eval prepare-judge, AUTOLINK_JUDGE")
    (folder / "my_heads").mkdir()
    for n in range(10):
        with VideoWriter(folder / "my_heads" / f"person{n}_1.mp4", Fraction(25)) as writer:
            for time in range(8):
                writer.write(drawn_face(3 + 3 * np.sin(time + n), 5 + 3 * np.cos(time)))


def prepare_reports(folder: Path, tiny_checkpoint: Path) -> None:
    """Reports to compare and to sum up, and pages that take the summary."""
    (folder / "docs").mkdir()
    for name in ("docs/results.md", "my_page.md"):
        (folder / name).write_text(f"{BEGIN}\n{END}\n")
    config = ReportConfig((str(tiny_checkpoint),), str(folder / "my_pictures"), out=folder / "report", pictures=2)
    report.run(config, [])
    for name in ("before", "after", "faces", "pets-gan"):
        shutil.copytree(folder / "report", folder / name)


TRAININGS = {
    "train_autolink.py": (TINY, ["--data", "my_pictures"]),
    "generation/train_transfer.py": (TINY_TRANSFER, ["--data", "my_clips"]),
    "generation/train_gan.py": (TINY_GAN, ["--data", "my_animals", "--stage-one", "runs/mine/model"]),
}
"""Options that make each training short, and those of the run that is resumed."""

LAUNCH = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--quiet"]


def split(command: str) -> tuple[list[str], str, list[str]]:
    """How a command is started, the file of its module as seen from the clone, and its options.

    `autolink sample --grid a.png` -> [python -m autolink.cli sample], generation/sample.py, [--grid a.png].
    """
    words = shlex.split(command)
    if words[:2] == ["accelerate", "launch"]:
        start, words = LAUNCH, words[2:]
    elif words[0] == "python":
        start, words = [sys.executable], words[1:]
    else:
        assert words[0] == "autolink", command
        count = 2 if words[1] == "eval" else 1
        name = " ".join(words[1 : 1 + count])
        start = [sys.executable, "-m", "autolink.cli", *words[1 : 1 + count]]
        return start, as_file(COMMANDS[name].module), words[1 + count :]
    if words[0] == "-m":
        return [*start, *words[:2]], as_file(words[1]), words[2:]
    return [*start, words[0]], words[0], words[1:]


def as_file(module: str) -> str:
    """`autolink.eval.fid` -> eval/fid.py, `autolink.detect` -> autolink/detect.py; stage one's training by its file."""
    if module == "autolink.train":
        return "train_autolink.py"
    inner = module.removeprefix("autolink.")
    return (inner if "." in inner else f"autolink/{inner}").replace(".", "/") + ".py"


ELSEWHERE = (
    "make", "git", "cd", "pip", "python -m venv", ". ", "autolink demo", "autolink studio", "autolink --version",
)  # fmt: skip
"""Of these, test_demo.py runs the demo, test_studio.py the studio, test_cli.py what `autolink` says of itself, and
test_packaging.py installs."""


@pytest.mark.parametrize("command", [c for c in ALL if not c.startswith(ELSEWHERE)])
def test_the_command_runs(
    command: str, pictures: Path, scenes: Path, animals: Path, tiny_checkpoint: Path, tiny_gan: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    start, script, options = split(command)
    if script.startswith("benchmarks"):
        pytest.skip("benchmarks measure; they are run by hand")
    if script == "autolink/export.py":
        pytest.importorskip("onnxscript")
    prepare(tmp_path, pictures, scenes, tiny_checkpoint)
    if script == "eval/prepare_judge.py":
        pytest.skip("downloads; see test_mediapipe.py")
    if "mediapipe" in options:
        prepare_heads(tmp_path)
    prepare_gan(tmp_path, animals, tiny_gan, tiny_checkpoint)
    if script in ("eval/fid.py", "eval/lpips.py"):
        prepare_sets(tmp_path, pictures)
    if "--compare" in options or "--summary" in options:
        prepare_reports(tmp_path, tiny_checkpoint)
    if any("shards" in option for option in options) and script != "autolink/pack.py":
        pack.run(PackConfig((tmp_path / "my_pictures",), tmp_path / "shards"))
    if "--save-statistics" in options:
        (tmp_path / "real.npz").unlink()
    if "celeba-wild" in options:
        celeba(tmp_path / "celeba", "img_celeba", "list_landmarks_celeba.txt")
    if script in TRAININGS:
        options = short_training(start, script, options, tmp_path)
    run([*start, *shortened(script, options, tmp_path)], tmp_path)


def short_training(start: list[str], script: str, options: list[str], folder: Path) -> list[str]:
    """Options of a training of a few steps; a run to resume is made first."""
    tiny, resumed = TRAININGS[script]
    if "--out" in options:
        shutil.rmtree(folder / options[options.index("--out") + 1], ignore_errors=True)
    if "--resume" in options:
        run([*start, *resumed, "--out", options[-1], *tiny], folder)
        return options
    if script == "train_autolink.py" and "--start-from" in options:
        tiny = [*tiny, "--keypoints", "5"]  # as many as the prepared model has
    if script == "generation/train_gan.py" and not options:  # thousands of pictures; see test_train_gan.py
        options = ["--data", "my_animals"]
    if "pets-gan" in options:  # the bundled one is not tiny
        known = {"pets": "runs/mine/model", "pets-gan": "runs/mine-gan/model"}
        options = [known.get(option, option) for option in options]
    if "--minutes" in options:
        tiny = [*tiny, "--minutes", "0.05"]
    return [*options, *tiny]


def shortened(script: str, options: list[str], folder: Path) -> list[str]:
    """Options that make a command short; what it reads is made, what it must not find is removed."""
    if script == "eval/gan.py":  # distances of a thousand features take long for each class and network
        options += ["--features", "efficientnet-lite0", "--data", "my_animals/cat"]
    if script == "generation/erase_colour.py":  # ten pictures for each coordinate of a keypoint
        dice = np.random.default_rng(0)
        (folder / "many").mkdir()
        for n in range(120):
            pixels = dice.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(folder / "many" / f"{n}.png")
        options += ["--data", "many"]
    if "mediapipe" in options:
        return [*options, "--frames", "5", *(["--clips", "2"] if script == "eval/transfer.py" else [])]
    if script in ("eval/transfer.py", "eval/report.py") and not {"--compare", "--summary"} & set(options):
        options += ["--clips", "2", "--frames", "2"]
    if script == "eval/report.py" and options == ["--clips", "2", "--frames", "2"]:  # eval/keypoints.py runs on figures
        options += ["--checkpoints", "checkpoints/figures-transfer"]
    if script == "autolink/convert.py":
        save(Restated(4), folder / options[0], hyper_parameters=PARAMETERS | {"n_parts": 4})
    if "--keypoints" in options or (script == "generation/extract.py" and "--motion" in options):
        (folder / "pose.json").unlink()
    return options


def run(words: list[str], folder: Path) -> None:
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
