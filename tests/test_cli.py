import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import autolink
from autolink import cli
from autolink.options import as_started


def test_every_command_is_there_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run([])
    said = capsys.readouterr().out
    for name, one in cli.COMMANDS.items():
        assert f"autolink {name}" in said and one.does in said
        assert callable(importlib.import_module(one.module).main)
    cli.run(["--version"])
    assert capsys.readouterr().out.strip() == f"autolink {autolink.__version__}"
    cli.run(["eval", "--help"])
    assert capsys.readouterr().out.count("autolink eval") == sum(name.startswith("eval") for name in cli.COMMANDS)


def test_a_wrong_command_is_told(fails: Callable[..., str]) -> None:
    assert "did you mean transfer?" in fails(2, lambda: cli.run(["transfr"]))
    assert "did you mean eval fid?" in fails(2, lambda: cli.run(["eval", "fdi"]))
    assert "there are demo, train" in fails(2, lambda: cli.run(["xyzzy"]))


def test_options_reach_the_command_under_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["autolink"])
    with pytest.raises(SystemExit) as stop:
        cli.run(["sample", "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "autolink sample" in said and "--grid" in said


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["autolink"])
    with pytest.raises(SystemExit) as stop:
        cli.run([*name.split(), "--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0 and f"autolink {name}" in said and "--help" in said


@pytest.mark.parametrize("name", ["train", "train-transfer", "train-gan", "eval judge"])
def test_examples_of_an_installed_training_need_no_clone(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["autolink", *name.split(), "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().out
    examples = said.partition("Examples:")[2].partition("Presets:")[0]
    assert examples.count(f"autolink {name}") == 2 and ".py" not in examples
    assert as_started("accelerate launch train_autolink.py") == f"autolink {name}"


@pytest.mark.parametrize("name", ["train", "train-transfer", "train-gan", "eval judge"])
def test_a_training_is_launched_as_a_module(name: str, tmp_path: Path) -> None:
    """As `accelerate launch -m autolink.train` does where there is no clone."""
    words = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--quiet", "-m"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(
        [*words, cli.COMMANDS[name].module, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "--steps" in done.stdout, done.stderr


def test_help_waits_for_no_network_and_torch() -> None:
    code = "import sys; from autolink.cli import run; run([]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_modules_are_modules() -> None:
    """No function of the same name hides one."""
    for name in ("edge_map", "draw", "detect", "train", "generation.transfer_video"):
        module = importlib.import_module(f"autolink.{name}")
        parent = importlib.import_module(module.__name__.rpartition(".")[0])
        assert getattr(parent, name.rpartition(".")[2]) is module, name
