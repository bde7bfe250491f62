"""What is left of a run whose process is killed, whenever that is."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from faults import crashes

from autolink import AutoLink, ModelConfig
from autolink.config import PRESETS
from autolink.errors import UsageError, UserError
from autolink.log import Log
from autolink.run_state import RunFolder, read_run_config

MODEL = ModelConfig(keypoints=5, size=32, detector_channels=(4, 8, 8), decoder_channels=(4, 8, 8))
CONFIG = replace(PRESETS["figures"], model=MODEL, mask_blocks=8)


def train_in(folder: Path, first: int = 1, last: int = 3, **options: Any) -> None:
    """What a training does to its folder."""
    torch.manual_seed(0)
    model = AutoLink(MODEL)
    run = RunFolder(folder)
    run.open(replace(CONFIG, **options))
    if not options.get("resume"):
        (folder / "cache").mkdir(exist_ok=True)
        (folder / "cache" / "pictures.npy").write_bytes(b"x")
        run.begin(CONFIG)
    for step in range(first, last + 1):
        run.save_checkpoint(step, {"weight": torch.full((3,), float(step))}, {"data": ""})
        model.save_pretrained(folder / "model")
    run.close()


def ways_on(folder: Path) -> list[str]:
    """Which next commands are accepted: from the start, with --overwrite, with --resume."""
    accepted = []
    for option in ("", "overwrite", "resume"):
        run = RunFolder(folder)
        try:
            run.open(replace(CONFIG, overwrite=option == "overwrite", resume=option == "resume"))
            if option == "resume":
                read_run_config(CONFIG, folder)
                run.load_checkpoint()
            accepted.append(option)
        except UserError:
            pass
        finally:
            run.close()
    return accepted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_killed_run_can_be_started_again_or_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for change in crashes(train_in, folder):
        assert ways_on(folder), f"killed before change {change}: {sorted(p.name for p in folder.iterdir())}"
    assert ways_on(folder) == ["overwrite", "resume"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_run_that_is_being_deleted_is_never_taken_for_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for _ in crashes(lambda folder: train_in(folder, 1, 1, overwrite=True), folder, before=train_in):
        steps = [int(p.name[5:]) for p in RunFolder(folder).checkpoints()]
        assert "" in ways_on(folder) or steps in ([2, 3], [], [1])  # the whole old run, or the new one
        train_in(folder, 1, 0, overwrite=True)
        assert not RunFolder(folder).checkpoints()  # nothing of the old run is left


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path) -> None:
    """The last step is saved once more where a finished run is resumed."""
    folder = tmp_path / "run"

    def more(folder: Path) -> None:
        train_in(folder, 2, 4, resume=True)
        train_in(folder, 4, 4, resume=True)

    for _ in crashes(more, folder, before=lambda folder: train_in(folder, 1, 1)):
        RunFolder(folder).open(replace(CONFIG, resume=True))
        tensors, state = RunFolder(folder).load_checkpoint()
        assert tensors["weight"].tolist() == [state["step"]] * 3
        AutoLink.from_pretrained(folder / "model")
        train_in(folder, 5, 5, resume=True)
        assert [p.name for p in (folder / "checkpoints").iterdir() if p.name.startswith(".")] == []
        assert not list(folder.glob(".model*"))


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds files that are no run"):
        RunFolder(tmp_path).open(replace(CONFIG, overwrite=True))
    assert [p.name for p in tmp_path.iterdir()] == ["model"] and (tmp_path / "model" / "mine.txt").exists()
    train_in(tmp_path / "run", 1, 1)
    (tmp_path / "run" / ".gitignore").write_text("cache")
    train_in(tmp_path / "run", 2, 2, resume=True)
    assert (tmp_path / "run" / ".gitignore").exists()


@pytest.mark.parametrize("damage", [b'{"step": 3, "lo', b"\xff\xfe\x00\n", b'{"step": "x"}\n', b"[1]\n3\n\n", b"\n"])
def test_damaged_metrics_are_cut_to_the_good_lines(tmp_path: Path, damage: bytes) -> None:
    good = [{"step": 2, "loss": 0.5}, {"step": 4, "loss": 0.25}]
    lines = [json.dumps(line).encode() + b"\n" for line in good]
    (tmp_path / "metrics.jsonl").write_bytes(lines[0] + damage + (b"" if damage.endswith(b"\n") else b"\n") + lines[1])
    Log(tmp_path, 4, Accelerator(cpu=True)).close()
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == good
    log = Log(tmp_path, 2, Accelerator(cpu=True))  # what lies beyond the checkpoint is done again
    log.write(3, {"loss": 1.0})
    log.close()
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 3]


@pytest.mark.parametrize("content", ["", "[]", '{"data": ""}', '{"step": "many"}'])
def test_a_damaged_state_is_told(tmp_path: Path, content: str) -> None:
    train_in(tmp_path, 1, 1)
    (RunFolder(tmp_path).checkpoints()[-1] / "state.json").write_text(content)
    with pytest.raises(UserError, match=r"is damaged .* delete it to resume"):
        RunFolder(tmp_path).load_checkpoint()
