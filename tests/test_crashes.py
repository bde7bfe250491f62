"""What a command that is killed leaves: outputs are whole or not there, and the next run goes on without help."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, TINY_GAN, TINY_TRANSFER
from faults import Work, crashes
from safetensors.torch import load_file

from autolink import detect, draw
from autolink.data.figures import figure_clip
from autolink.detect import DetectConfig
from autolink.eval.report import REPORT, check_folder, write_folder
from autolink.run_state import RunFolder
from autolink.video.files import read_frames
from autolink.video.motion import Motion, read_motion, write_motion
from autolink.video.writer import VideoWriter

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

FRAMES = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), np.uint8)

every_point = pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
"""Killed before every fifth change on disk, and before every one where there is time."""


def hidden(folder: Path) -> list[str]:
    """What lies unfinished below a folder."""
    return [path.name for path in folder.rglob(".*")]


def detected(checkpoint: Path) -> Work:
    def work(folder: Path) -> None:
        detect.run(DetectConfig(folder / "in", folder / "out", str(checkpoint), overwrite=True))

    return work


def three_pictures(pictures: Path) -> Work:
    def lay(folder: Path) -> None:
        (folder / "in").mkdir(parents=True)
        for n in range(3):
            shutil.copy(pictures / "images" / f"{n:02}.png", folder / "in")

    return lay


@every_point
@pytest.mark.parametrize("over", [False, True], ids=["new", "over an earlier result"])
def test_detect_goes_on_after_a_kill(
    every: int, over: bool, pictures: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    lay, work = three_pictures(pictures), detected(tiny_checkpoint)

    def before(folder: Path) -> None:
        lay(folder)
        if over:
            work(folder)
            (folder / "in" / "00.png").rename(folder / "in" / "09.png")

    for _ in crashes(work, folder, before, every):
        work(folder)
        named = {image["image"] for image in json.loads((folder / "out" / "keypoints.json").read_text())["images"]}
        assert {path.name for path in (folder / "out").iterdir()} == named | {"keypoints.json"}
        assert len(named) == 3


@every_point
def test_a_video_motion_or_picture_is_whole_or_not_there(every: int, tmp_path: Path) -> None:
    folder = tmp_path / "work"

    def work(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        with VideoWriter(folder / "a.mp4", Fraction(25)) as writer:
            for frame in FRAMES:
                writer.write(frame)
        write_motion(folder / "a.json", Motion(np.zeros((2, 3, 2)), Fraction(25), 8, 8))
        draw.write_picture(folder / "a.png", FRAMES[0])

    for _ in crashes(work, folder, every=every):
        if (folder / "a.mp4").exists():
            assert len(list(read_frames(folder / "a.mp4"))) == len(FRAMES)
        if (folder / "a.json").exists():
            read_motion(folder / "a.json")
        work(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["a.json", "a.mp4", "a.png"]


@every_point
def test_an_earlier_report_is_there_until_the_next_one_is(every: int, tmp_path: Path) -> None:
    folder = tmp_path / "work"

    def report(names: str) -> Work:
        def work(folder: Path) -> None:
            folder.mkdir(exist_ok=True)
            check_folder(folder / "report", REPORT, overwrite=True)
            pictures = {f"pictures/{name}.png": FRAMES[0] for name in names}
            write_folder(folder / "report", {"report.json": names, "report.html": names}, pictures)

        return work

    for _ in crashes(report("bc"), folder, report("ab"), every):
        for name in ("report.json", "report.html"):
            assert (folder / "report" / name).read_text() in ("ab", "bc")
        report("bc")(folder)
        assert sorted(path.name for path in (folder / "report" / "pictures").iterdir()) == ["b.png", "c.png"]
        assert hidden(folder) == []


OFTEN = ["--save-minutes", "0.0001", "--sample-minutes", "0.01"]

TRAININGS = {
    "stage one": ("autolink.train", TINY),
    "transfer": ("autolink.generation.train_transfer", TINY_TRANSFER),
    "gan": ("autolink.generation.train_gan", TINY_GAN),
}

Start = Callable[..., Any]


def no_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Nothing is asked of a network unless an option says so."""
    if event in ("socket.connect", "socket.getaddrinfo"):
        os._exit(77)


def in_silence(module: str, arguments: list[str]) -> None:
    """A command in a process of its own."""
    sys.addaudithook(no_network)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
    sys.argv = [module, *arguments]
    import_module(module).main()


@pytest.fixture(scope="module")
def started() -> Start:
    """Starts a command in a fork of a server that has everything imported already."""
    server = get_context("forkserver")
    server.set_forkserver_preload([module for module, _ in TRAININGS.values()] + ["autolink.generation.transfer"])

    def start(module: str, *arguments: object) -> Any:
        process = server.Process(target=in_silence, args=(module, [str(argument) for argument in arguments]))
        process.start()
        return process

    return start


def step_of(out: Path) -> int:
    return max((int(path.name[5:]) for path in RunFolder(out).checkpoints()), default=0)


def weights(out: Path) -> dict[str, torch.Tensor]:
    """Of the last checkpoint and the model."""
    resumed = load_file(RunFolder(out).checkpoints()[-1] / "training.safetensors")
    return resumed | {f"saved {name}": t for name, t in load_file(out / "model" / "model.safetensors").items()}


def killed_at_random(process: Any, progressed: Callable[[], bool], dice: Random) -> None:
    """Most times after the next checkpoint, so that the run comes to its end, else anywhere."""
    pause = dice.uniform(0, 2)
    if dice.random() < 0.8:
        pause /= 10
        while process.is_alive() and not progressed():
            time.sleep(0.001)
    time.sleep(pause)
    process.kill()


@pytest.mark.parametrize(
    ("name", "steps", "kills"),
    [("stage one", 12, 3), *(pytest.param(name, 200, 34, marks=pytest.mark.slow) for name in TRAININGS)],
)
def test_a_training_killed_at_random_ends_as_if_it_was_not(
    name: str,
    steps: int,
    kills: int,
    started: Start,
    pictures: Path,
    animals: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
) -> None:
    """Bit for bit, however often it is killed and resumed, and nothing unfinished is left."""
    module, options = TRAININGS[name]
    options = [*options, "--steps", str(steps), "--data", str(animals if name == "gan" else pictures)]
    if name != "stage one":
        options += ["--stage-one", str(tiny_checkpoint)]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    process = started(module, *options, "--out", whole)
    process.join()
    assert process.exitcode == 0

    dice, codes = Random(name), [-1]
    while codes[-1] != 0:
        before = step_of(broken)
        process = started(module, *(["--resume"] if before else [*options, *OFTEN, "--overwrite"]), "--out", broken)
        if len(codes) <= kills:
            killed_at_random(process, lambda before=before: step_of(broken) > before, dice)  # type: ignore[misc]
        process.join()
        codes.append(process.exitcode)
        assert codes[-1] in (0, -signal.SIGKILL)
    assert codes.count(-signal.SIGKILL) == kills
    one, other = weights(whole), weights(broken)
    assert one.keys() == other.keys()
    assert [key for key, value in one.items() if not torch.equal(value, other[key])] == []
    assert [left for left in hidden(broken) if left != ".lock"] == []


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_a_transfer_killed_while_it_writes_leaves_the_earlier_video(kills: int, started: Start, tmp_path: Path) -> None:
    for name, frames, person in (("source", 4, 3), ("driver", 30, 4)):
        with VideoWriter(tmp_path / f"{name}.mp4", Fraction(25)) as writer:
            for frame in figure_clip(frames, person, 64)[0]:
                writer.write(frame)
    out = tmp_path / "out" / "result.mp4"
    out.parent.mkdir()
    clips = ["--src", tmp_path / "source.mp4", "--driver", tmp_path / "driver.mp4", "--out", out, "--overwrite"]
    arguments = [*clips, "--checkpoint", "figures-transfer", "--crop", "none", "--device", "cpu"]
    out.write_bytes(b"an earlier one")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT) * kills:
        process = started("autolink.generation.transfer", *arguments)
        while process.is_alive() and not list(out.parent.glob(f".result.part-*-{process.pid}-*")):
            time.sleep(0.001)
        os.kill(process.pid, number)
        process.join()
        assert process.exitcode in (-number, 128 + number) and out.read_bytes() == b"an earlier one"
    process = started("autolink.generation.transfer", *arguments)
    process.join()
    assert process.exitcode == 0 and len(list(read_frames(out))) == 30
    assert [path.name for path in out.parent.iterdir()] == ["result.mp4"]
