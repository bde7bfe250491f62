import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import array
from test_eval_gan import quick

from autolink import AutoLink
from autolink.eval import gan
from autolink.eval.judge_model import Judge, JudgeConfig
from autolink.eval.report import ReportConfig, over_seeds, run, write_folder
from autolink.eval.reporting.charts import chart
from autolink.eval.reporting.compare import compare
from autolink.eval.reporting.content import Conditions, Figure, shown_spread, shown_value
from autolink.eval.reporting.inputs import bundled, find_subjects, read_curves
from autolink.eval.reporting.literature import beside
from autolink.eval.reporting.summary import BEGIN, END, summary
from autolink.generation.translator import PoseTransfer, Translator
from autolink.generation.translator_config import TranslatorConfig

ROOT = Path(__file__).resolve().parents[1]


def started(folder: Path, model: Path, data: str, seed: int = 0) -> Path:
    """A run folder as training leaves it."""
    shutil.copytree(model, folder / "model")
    (folder / "config.json").write_text(json.dumps({"data": data, "seed": seed, "steps": 40, "out": str(folder)}))
    (folder / "versions.json").write_text(json.dumps({"torch": "2", "commit": "abc"}))
    lines = [
        {"step": 20, "loss": 1.5, "learning_rate": 1e-3},
        {"step": 40, "loss": 0.5, "learning_rate": 1e-3},
        {"step": 40, "regression_error": 7.25, "mean_pose_error": 10.5},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 60, "lo')
    return folder


@pytest.fixture(scope="module")
def moving(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained pose transfer."""
    torch.manual_seed(0)
    config = TranslatorConfig(
        keypoints=5, size=32, bones=4, channels=(4, 8, 8), motion_size=16, motion_channels=(8, 8)
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("moving") / "tiny-transfer"
    PoseTransfer(AutoLink.from_pretrained(tiny_checkpoint), Translator(config)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def written(
    tiny_checkpoint: Path, tiny_gan: Path, moving: Path, pictures: Path, animals: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    """One report on two runs of stage one, a pose transfer, a GAN and a judge, each on its run's data."""
    out = tmp_path_factory.mktemp("reports")
    torch.manual_seed(1)
    Judge(JudgeConfig(size=32, channels=(4, 8, 8))).save_pretrained(out / "untaught", "card")
    runs = [
        started(out / "first <run>", tiny_checkpoint, str(pictures), 0),
        started(out / "second", tiny_checkpoint, str(pictures), 1),
        started(out / "moved", moving, "figures"),
        started(out / "drawn", tiny_gan, str(animals)),
        started(out / "judged", out / "untaught", str(pictures)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        patch.setattr(gan, "VARIETY_STRUCTURES", 2)
        patch.setattr(gan, "chosen_features", lambda _: ("efficientnet-lite0",))
        config = ReportConfig(tuple(map(str, runs)), out=out / "report", clips=2, frames=2, pictures=4, generated=24)
        run(config, ["--out", "report"])
    return out / "report"


@pytest.fixture(scope="module")
def report(written: Path) -> dict[str, Any]:
    return json.loads((written / "report.json").read_text())


def test_every_figure_says_how_it_was_measured(report: dict[str, Any]) -> None:
    assert [c["kind"] for c in report["checkpoints"]] == ["autolink", "autolink", "transfer", "gan", "judge"]
    assert report["versions"]["torch"] and report["created"].endswith("UTC") and report["seconds"] > 0
    for checkpoint in report["checkpoints"]:
        assert checkpoint["figures"] and len(checkpoint["weights_sha256"]) == 64
        keys = [f["key"] for f in checkpoint["figures"]]
        assert len(keys) == len(set(keys))
        for figure in checkpoint["figures"]:
            assert all(figure[name] for name in ("data", "protocol", "samples", "features", "judge", "name", "group"))
            assert figure["value"] is None or np.isfinite(figure["value"])
            assert figure["seed"] == 0 and "/" not in figure["data"]


def test_kinds_show_what_belongs_to_them(report: dict[str, Any]) -> None:
    first, _, moved, drawn, judged = report["checkpoints"]
    figures = {f["key"]: f for f in first["figures"]}
    assert np.mean([r["error"] for r in first["landmarks"]]) == pytest.approx(figures["error_with_bias"]["value"])
    assert len(first["keypoints"]) == 5 and len(first["graph"]["edges"]) == 10
    assert max(w for _, _, w in first["graph"]["edges"]) == pytest.approx(1)
    assert figures["reconstruction_features"]["features"] == "efficientnet-lite0"
    moved_keys = {f["key"] for f in moved["figures"]}
    assert {"self.moving_l1", "cross.joint_error_percent_of_side", "appearance.generated_percent"} <= moved_keys
    assert all(f["yardstick"] is not None for f in moved["figures"] if f["better"])
    assert any(f["key"] == "all.fid[efficientnet-lite0]" and "biased" in f["name"] for f in drawn["figures"])
    assert {"All pictures", "Class cat", "Class dog"} == {f["group"] for f in drawn["figures"]}
    assert len(judged["landmarks"]) == 15


def test_tables_and_json_agree(written: Path, report: dict[str, Any]) -> None:
    text, page = (written / "report.md").read_text(), (written / "report.html").read_text()
    for checkpoint in report["checkpoints"]:
        own = text[text.index(f"## {checkpoint['name']}\n") :].split("\n## ")[0]
        for figure in checkpoint["figures"]:
            told = (f" {shown_value(figure)} |", figure["samples"], figure["features"], figure["judge"], figure["data"])
            rows = [line for line in own.splitlines() if line.startswith(f"| {figure['name']} ")]
            assert any(all(part in row for part in told) for row in rows)
            assert f">{shown_value(figure)}</td>" in page
        for picture in checkpoint["pictures"]:
            assert picture["file"] in text
            assert array(written / picture["file"]).shape == (picture["height"], picture["width"], 3)


class Page(HTMLParser):
    """What a page refers to, and whether its tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.ids: list[str | None] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [v or "" for name, v in attrs if name in ("src", "href", "srcset", "data", "action", "poster")]
        self.ids += [values["id"]] if "id" in values else []
        if tag == "img":
            self.images.append(values)
        if tag not in ("meta", "img", "br", "link") and self.get_starttag_text()[-2:] != "/>":  # type: ignore[index]
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(written: Path, report: dict[str, Any]) -> None:
    text = (written / "report.html").read_text()
    page = Page()
    page.feed(text)
    page.close()
    assert not page.open
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert "url(" not in text and "@import" not in text and "<script" not in text
    assert len(page.images) == sum(len(c["pictures"]) for c in report["checkpoints"])
    assert all(image["alt"] and image["width"] and image["height"] for image in page.images)
    assert "first &lt;run&gt;" in text and "<run>" not in text  # a folder's name is text
    assert "prefers-color-scheme" in text and 'name="viewport"' in text
    assert text.count('class="chart"') == 5 * 2  # loss, and the regression error with the mean pose dashed


def test_runs_that_differ_in_their_seed_are_averaged(report: dict[str, Any]) -> None:
    row = next(r for r in report["over_seeds"] if r["key"] == "error_with_bias")
    assert row["runs"] == ["first <run>", "second"] and row["seeds"] == [0, 1]
    assert row["spread"] == 0 and row["mean"] == row["values"][0]


def checkpoint(value: float, seed: int, **changed: Any) -> dict[str, Any]:
    conditions = Conditions(**({"data": "figures", "protocol": "p", "samples": "9"} | changed))
    figures = [Figure("a", "A", value, conditions, better="lower").as_json()]
    return {"name": f"run{seed}", "kind": "autolink", "figures": figures, "model": {"keypoints": 4},
            "training": {"config": {"seed": seed, "steps": 3, "out": f"o{seed}"}}}  # fmt: skip


def test_spread_over_seeds_is_the_standard_deviation() -> None:
    (row,) = over_seeds([checkpoint(1.0, 0), checkpoint(2.0, 1), checkpoint(4.5, 2)])
    assert row["mean"] == 2.5 and row["spread"] == pytest.approx(np.std([1, 2, 4.5], ddof=1))
    other = checkpoint(2.0, 1)
    other["training"]["config"]["steps"] = 4
    assert not over_seeds([checkpoint(1.0, 0), other])
    assert not over_seeds([checkpoint(1.0, 0), checkpoint(2.0, 1, samples="10")])


def test_published_figures_stand_only_beside_their_own_protocol() -> None:
    ours = checkpoint(1.0, 0)
    assert beside([ours]) == []
    ours["figures"][0] |= {"key": "published_error", "data": "celeba-wild", "value": 5.0}
    rows = beside([ours])
    assert {row["data"] for row in rows} == {"celeba-wild"} and rows[0]["ours"]
    assert [(row["keypoints"], row["value"]) for row in rows] == [(4, 5.0), (4, 6.11), (8, 5.24)]


def stored(folder: Path, *checkpoints: dict[str, Any]) -> Path:
    folder.mkdir()
    content = {"checkpoints": list(checkpoints), "created": "now", "versions": {"commit": "abc"}}
    (folder / "report.json").write_text(json.dumps(content))
    return folder / "report.json"


def test_two_reports_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = checkpoint(3.0, 0), checkpoint(2.5, 1)
    for part, samples in ((first, "40 clips"), (second, "20 clips")):
        figure = Figure("b", "B", 1.0, Conditions("figures", "p", samples), group="G")
        part["figures"].append(figure.as_json())
    paths = stored(tmp_path / "a", first), stored(tmp_path / "b", second)
    run(ReportConfig(compare=paths, out=tmp_path / "both"), [])
    said = capsys.readouterr().out
    assert "-0.50" in said and "better" in said and "'40 clips' against '20 clips'" in said
    found = json.loads((tmp_path / "both" / "comparison.json").read_text())
    assert [row["difference"] for row in found["figures"]] == [-0.5] and len(found["not_comparable"]) == 1
    page = Page()
    page.feed((tmp_path / "both" / "comparison.html").read_text())
    assert not page.open and not page.links
    assert "-0.50" in (tmp_path / "both" / "comparison.md").read_text()
    assert {p.name for p in (tmp_path / "both").iterdir()} == {f"comparison.{end}" for end in ("json", "md", "html")}


def test_overlapping_intervals_are_named(tmp_path: Path) -> None:
    def with_interval(value: float) -> dict[str, Any]:
        part = checkpoint(value, 0)
        part["figures"][0]["interval_95"] = [value - 0.3, value + 0.3]
        return part

    first, near, far = (stored(tmp_path / str(v), with_interval(v)) for v in (1.0, 1.5, 2.0))
    assert compare(first, near)["figures"][0]["verdict"] == "worse, intervals overlap"
    assert compare(far, first)["figures"][0]["verdict"] == "better"


def test_a_report_compared_with_itself_is_equal(written: Path) -> None:
    found = compare(written, written / "report.json")
    assert not found["not_comparable"]
    assert {row["verdict"] for row in found["figures"]} <= {"equal", ""}


def test_figures_are_printed_as_they_are_meant() -> None:
    figure = Figure("a", "A", 1234.5, Conditions("d", "p", "s"), digits=1, spread=0.25, spread_over="clips").as_json()
    assert shown_value(figure) == "1,234.5" and shown_spread(figure) == "± 0.2 over clips"
    missing = Figure("a", "A", float("nan"), Conditions("d", "p", "s"), interval_95=(1.0, 2.0)).as_json()
    assert missing["value"] is None and shown_value(missing) == "" and shown_spread(missing) == "1.00 to 2.00 (95 %)"


def test_curves_are_read_and_drawn(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "loss": 2.0}\nnot json\n[]\n{"step": 2, "loss": NaN, "x": "a"}\n{"step": 3, "loss": 1}\n{'
    )
    assert read_curves(path) == {"loss": [[1, 2.0], [3, 1]]}
    drawn = chart("loss", [[1, 2.0], [3, 1.0]], [])
    points = drawn.split('points="')[1].split('"')[0].split()
    (x0, y0), (x1, y1) = (map(float, p.split(",")) for p in points)
    assert x0 < x1 and y0 < y1  # the loss falls
    assert "<circle" in chart("loss", [[5, 1.0]], [])  # one value is a dot


def test_a_run_is_known_by_its_folder_or_its_model(tiny_checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    run_folder = started(tmp_path / "mine", tiny_checkpoint, str(pictures))
    given = [str(run_folder), str(run_folder / "model")]
    found = find_subjects(given, "auto", None)
    assert [subject.name for subject in found] == ["mine", "mine-2"]
    assert all(s.run == run_folder and s.data == str(pictures) and s.data_name == pictures.name for s in found)
    (run_folder / "config.json").unlink()
    (run_folder / "metrics.jsonl").unlink()
    (bare,) = find_subjects(given[:1], str(pictures), None)
    assert bare.folder == run_folder / "model" and bare.run is None and bare.training() is None


def test_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("before")
    with pytest.raises(TypeError):
        write_folder(tmp_path / "out", {"report.json": "after"}, {"pictures/a.png": None})  # type: ignore[dict-item]
    assert (tmp_path / "out" / "report.json").read_text() == "before"
    write_folder(tmp_path / "out", {"report.json": "after"}, {"pictures/a.png": np.zeros((4, 4, 3), np.uint8)})
    assert (tmp_path / "out" / "report.json").read_text() == "after"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_wrong_input_is_told(
    fails: Callable[..., str], tiny_checkpoint: Path, moving: Path, tiny_gan: Path, pictures: Path, written: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    def said(code: int, *checkpoints: Path, **options: Any) -> str:
        given = {"data": str(pictures), "out": tmp_path / "out", **options}
        told = fails(code, lambda: run(ReportConfig(tuple(map(str, checkpoints)), **given), []))
        assert not (tmp_path / "out").exists() and len(told.splitlines()) == 1
        return told

    assert "there is no such folder" in said(2, tmp_path / "none")
    assert "no checkpoint and no run" in said(1, tmp_path)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "llama"}')
    assert "'llama'" in said(1, tmp_path / "odd")
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "gan"}')
    assert "model.safetensors is missing" in said(1, tmp_path / "odd")
    (tmp_path / "odd" / "config.json").write_text("[]")
    assert "cannot be read" in said(1, tmp_path / "odd")
    (tmp_path / "odd" / "config.json").write_text('{"data": "figures"}')
    assert "no run that has saved a model" in said(1, tmp_path / "odd")
    assert "folder of videos" in said(2, moving, data=str(tmp_path / "odd"))
    assert "keeps nobody for testing" in said(1, moving)
    assert "does not exist" in said(2, tiny_checkpoint, data=str(tmp_path / "none"))
    assert "holds no pictures" in said(1, tiny_checkpoint, data=str(tmp_path / "odd"))
    assert "no class of this GAN" in said(1, tiny_gan)
    assert "no bundled checkpoint" in said(2)
    assert "--root" in said(2, tiny_checkpoint, data="taichi")
    assert "--clips" in said(2, moving, data="figures", clips=1)
    assert "--seed" in said(2, tiny_checkpoint, seed=-1)
    assert "holds a report" in said(2, tiny_checkpoint, out=written)
    assert "no report, such as" in said(2, tiny_checkpoint, out=pictures, overwrite=True)
    assert "does not exist" in said(2, tiny_checkpoint, out=tmp_path / "no" / "out")
    assert "is a file" in said(2, tiny_checkpoint, out=written / "report.md")


def test_bundled_checkpoints_are_chosen_by_what_they_know(tmp_path: Path) -> None:
    assert [path.name for path in bundled("auto")] == ["figures", "figures-transfer"]
    assert "animals" in [path.name for path in bundled("animals")]
    (tmp_path / "landmarks.csv").write_text(f"image,{','.join(f'x{n},y{n}' for n in range(68))}\n")
    assert [path.name for path in bundled(str(tmp_path))] == ["faces"]
    (tmp_path / "a.mp4").touch()
    assert [path.name for path in bundled(str(tmp_path))] == ["faces-transfer"]


def test_wrong_comparisons_are_told(fails: Callable[..., str], tmp_path: Path) -> None:
    one = stored(tmp_path / "one", checkpoint(1.0, 0))
    other = stored(tmp_path / "other", checkpoint(1.0, 0, data="animals"))
    none = stored(tmp_path / "none", checkpoint(1.0, 0) | {"kind": "gan", "name": "else"})
    (tmp_path / "bad.json").write_text('{"checkpoints": [{}]}')

    def said(code: int, second: Path, **options: Any) -> str:
        return fails(code, lambda: run(ReportConfig(compare=(one, second), **options), []))

    assert "A: data 'figures' against 'animals'" in said(1, other)
    assert "no figure of the same kind" in said(1, none)
    assert "is no report of this command" in said(1, tmp_path / "bad.json")
    assert "there is no such file" in said(2, tmp_path / "missing.json")
    assert "measures nothing" in said(2, one, checkpoints=("x",))
    assert "no report, such as" in said(2, one, out=tmp_path)


def test_a_summary_holds_the_main_figures_and_how_they_were_made(written: Path, report: dict[str, Any]) -> None:
    text = summary([report])
    assert "`python eval/report.py --out report`, seed 0, commit" in text
    parts = text.split("\n**")
    for checkpoint, part in zip(report["checkpoints"], parts, strict=True):
        assert f"weights {checkpoint['weights_sha256'][:12]}" in part
        headlines = [f for f in checkpoint["figures"] if f["headline"]]
        groups = {f["group"] for f in headlines}
        assert headlines and part.count("\n| ") == 2 + len(headlines) + (len(groups) if len(groups) > 1 else 0)
        for figure in headlines:
            row = next(line for line in part.splitlines() if f"{figure['name']}" in line and line.startswith("| "))
            assert f"**{shown_value(figure)}**" in row or len(headlines) > 1
            assert f"{figure['data']}, {figure['samples']}" in part and figure["protocol"] in part


def test_a_summary_takes_its_place_in_a_page(written: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    config = ReportConfig(summary=(written / "report.json",), into=page)
    for _ in range(2):
        run(config, [])
        before, rest = page.read_text().split(f"{BEGIN}\n")
        table, after = rest.split(f"{END}\n")
        assert (before, after) == ("before\n", "after\n") and "old" not in table and "weights" in table
    for wrong in (f"{END}\n{BEGIN}\n", f"{BEGIN}\n", f"{BEGIN}\n{END}\n" * 2, ""):
        page.write_text(wrong)
        assert "needs one line <!-- results -->" in fails(1, lambda: run(config, []))
        assert page.read_text() == wrong
    page.unlink()
    assert "cannot be read" in fails(1, lambda: run(config, []))
    one = (page,)
    for options in ({"into": page}, {"summary": one, "out": tmp_path}, {"summary": one, "compare": (page, page)}):
        assert "--summary" in fails(2, lambda options=options: run(ReportConfig(**options), []))
    assert "there is no such file" in fails(2, lambda: run(ReportConfig(summary=(page,)), []))


def test_run_as_a_user_would(tiny_checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "eval" / "report.py"), "--checkpoints", str(tiny_checkpoint), "--data",
               str(pictures), "--pictures", "3"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "8 test pictures, fitted on 16" in done.stdout and "report/report.html" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


def test_overwriting_replaces_a_report_and_nothing_else(tmp_path: Path, fails: Callable[..., str]) -> None:
    paths = stored(tmp_path / "a", checkpoint(3.0, 0)), stored(tmp_path / "b", checkpoint(2.5, 1))
    for _ in range(2):
        run(ReportConfig(compare=paths, out=tmp_path / "both", overwrite=True), [])
    (tmp_path / "both" / "mine.txt").write_text("mine")
    assert "mine.txt" in fails(2, lambda: run(ReportConfig(compare=paths, out=tmp_path / "both", overwrite=True), []))
    assert (tmp_path / "both" / "mine.txt").exists()
