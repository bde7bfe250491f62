import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from autolink.generation import refine
from autolink.generation.gan import Gan
from autolink.model import AutoLink
from autolink.run_state import RunFolder

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

Options = Callable[..., list[str]]


@pytest.fixture
def options(animals: Path, tiny_gan: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    monkeypatch.setattr(refine, "MEASURED", 16)
    few = ["--batch", "6", "--log-every", "2", "--threads", "1", "--directions", "0"]

    def build(out: Path, steps: int) -> list[str]:
        return ["--gan", str(tiny_gan), "--data", str(animals), "--out", str(out), "--steps", str(steps), *few]

    return build


def test_keypoints_come_nearer_to_those_asked_for_and_the_graph_stays(
    options: Options, tiny_gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refine, "MOVED", 0.0)
    refine.run([*options(tmp_path / "run", 80), "--learning-rate", "0.01", "--relight", "0", "--ema", "0.9"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "error" in line][-1]
    assert 0 < measured["error"] < 0.9 * measured["error_before"]
    gan, refined = Gan.from_pretrained(tiny_gan), AutoLink.from_pretrained(tmp_path / "run" / "model")
    torch.testing.assert_close(refined.edge_weights, gan.stage_one.edge_weights)
    torch.testing.assert_close(refined.decoder.state_dict(), gan.stage_one.decoder.state_dict())
    Gan(refined, gan.generator)  # they fit
    assert (tmp_path / "run" / "samples" / "0000080.png").is_file()


def test_stopped_and_resumed_equals_uninterrupted(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    refine.run(options(whole, 4))
    with monkeypatch.context() as patch:
        patch.setattr("autolink.loop.asked_to_stop", lambda accelerator, stop: True)
        with pytest.raises(SystemExit):
            refine.run(options(broken, 4))
    assert f"generation/refine.py --resume --out {broken}" in capsys.readouterr().out
    assert [p.name for p in RunFolder(broken).checkpoints()] == ["step-0000001"]
    refine.run(["--resume", "--out", str(broken)])
    wanted, got = (load_file(out / "model" / "model.safetensors") for out in (whole, broken))
    assert wanted.keys() == got.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=0)


def test_what_cannot_be_is_refused_before_anything_is_written(
    options: Options, tiny_gan: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    out = tmp_path / "run"
    assert "--gan is needed" in fails(2, lambda: refine.run(["--data", "animals", "--out", str(out)]))
    assert "--data is needed" in fails(2, lambda: refine.run(["--gan", str(tiny_gan), "--out", str(out)]))
    (tmp_path / "flat").mkdir()
    arguments = [*options(out, 4), "--data", str(tmp_path / "flat")]
    assert "flat" in fails(1, lambda: refine.run(arguments))
    figures = [*options(out, 4), "--data", "figures"]
    assert "has the classes all" in fails(1, lambda: refine.run(figures))
    assert "--faithful" in fails(2, lambda: refine.run([*options(out, 4), "--faithful", "0"]))
    assert not out.exists()
