import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import array
from markdown_it import MarkdownIt
from test_eval_gan import quick

from autolink import AutoLink
from autolink.errors import UserError
from autolink.eval import gan
from autolink.eval.judge_model import Judge, JudgeConfig
from autolink.eval.report import ReportConfig, over_seeds, run, write_folder
from autolink.eval.reporting.charts import chart
from autolink.eval.reporting.compare import Comparison, compare, pairs, read_report
from autolink.eval.reporting.content import Checkpoint, PublishedFigure, Report, Training
from autolink.eval.reporting.inputs import bundled_for, find_subjects, read_curves
from autolink.eval.reporting.literature import beside
from autolink.eval.reporting.render import (
    BEGIN,
    END,
    comparison_text,
    escaped,
    report_page,
    summary_text,
)
from autolink.eval.results import Figure, Section, as_text, from_json, to_json
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
        config = ReportConfig(tuple(map(str, runs)), out=out / "report", clips=2, frames=2, pictures=2, generated=16)
        run(config, ["--out", "report"])
    return out / "report"


@pytest.fixture(scope="module")
def report(written: Path) -> Report:
    return from_json(Report, (written / "report.json").read_bytes())


def test_every_figure_says_how_it_was_measured(report: Report) -> None:
    assert [c.kind for c in report.checkpoints] == ["autolink", "autolink", "transfer", "gan", "judge"]
    assert report.versions["torch"] and report.created.endswith("UTC") and report.seconds > 0
    for checkpoint in report.checkpoints:
        figures = checkpoint.measured.figures
        assert figures and checkpoint.headlines and len(checkpoint.weights_sha256) == 64
        assert len({f.key for f in figures}) == len(figures)
        for figure in figures:
            assert all((figure.data, figure.protocol, figure.samples, figure.name, figure.group))
            assert figure.value is not None and np.isfinite(figure.value) and figure.count > 0
            assert figure.seed == 0 and "/" not in figure.data and figure.protocol.endswith(".")


def test_kinds_show_what_belongs_to_them(report: Report) -> None:
    first, _, moved, drawn, judged = (checkpoint.measured for checkpoint in report.checkpoints)
    assert np.mean([row.error for row in first.landmarks]) == pytest.approx(first["error_with_bias"].value)
    assert first.graph is not None and len(first.best_landmarks) == len(first.graph.positions) == 5
    assert len(first.graph.edges) == 10 and max(w for _, _, w in first.graph.edges) == pytest.approx(1)
    assert first["reconstruction_features"].measured_by == "efficientnet-lite0"
    moved_keys = {f.key for f in moved.figures}
    assert {"self.moving_l1", "cross.joint_error_percent_of_side", "appearance.generated_percent"} <= moved_keys
    assert all(f.baseline is not None for f in moved.figures if f.better)
    assert "biased" in drawn["all.fid[efficientnet-lite0]"].name
    assert {"All pictures", "Class cat", "Class dog"} == {f.group for f in drawn.figures}
    assert len(judged.landmarks) == 15


def test_pages_and_json_agree(written: Path, report: Report) -> None:
    page = (written / "report.html").read_text()
    for checkpoint in report.checkpoints:
        own = page[page.index(f'<section id="{checkpoint.slug}">') :].split("</section>")[0]
        rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in own.split("<tr>")]
        cells = [[html.unescape(cell) for cell in row] for row in rows]
        for figure in checkpoint.measured.figures:
            shown = [figure.label, figure.shown_value, figure.shown_spread, figure.shown_baseline]
            assert any(row[:4] == shown for row in cells)
            assert figure.measured_on in html.unescape(own)
        for picture in checkpoint.measured.pictures:
            file = checkpoint.picture_file(picture.name)
            assert array(written / file).shape == (picture.height, picture.width, 3)


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


def test_the_page_needs_nothing_else(written: Path, report: Report) -> None:
    text = (written / "report.html").read_text()
    page = Page()
    page.feed(text)
    page.close()
    assert not page.open
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert "url(" not in text and "@import" not in text and "<script" not in text
    assert len(page.images) == sum(len(c.measured.pictures) for c in report.checkpoints)
    assert all(image["alt"] and image["width"] and image["height"] for image in page.images)
    assert "first &lt;run&gt;" in text and "<run>" not in text  # a folder's name is text
    assert "prefers-color-scheme" in text and 'name="viewport"' in text
    assert text.count('class="chart"') == 5 * 2  # loss, and the regression error with the mean pose dashed


HOSTILE = (
    "<img src=x onerror=alert(1)>", "</code></td></table><script>alert(1)</script>", "'\"><b onclick=alert(1)>",
    "[a](javascript:alert(1)) ![b](http://b.c/d)", "`</code>`` | **b** | _c_ ~~d~~ $e$",
    "\n\n# a\n- b\n---\n> c\n\t1. d",
    "<https://a.b> https://a.b &lt;i&gt; {{ 7*7 }} {% raw %}", "--><!-- a",
    "{{ report }}\\", "1. a", "- a", "# a", "===",
)  # fmt: skip
"""Names that a folder, a picture, a class or a model card may have."""


def with_hostile_texts(values: Any, name: str) -> Any:
    """The same with a hostile name in every text, but for those that have few values."""
    if isinstance(values, dict):
        kept = {"better", "slug", "kind_name"} | ({"name"} if "width" in values else set())  # our own names of pictures
        changed = {k: v if k in kept else with_hostile_texts(v, name) for k, v in values.items()}
        return changed | {f"{name} {n}": v for n, v in enumerate(values.values())} if "seed" in values else changed
    if isinstance(values, list):
        return [with_hostile_texts(value, name) for value in values]
    return f"{name} {values}" if isinstance(values, str) else values


class Tags(HTMLParser):
    """The tags and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str | None] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value for name, value in attrs if name in ("href", "src")}

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


@pytest.mark.parametrize("name", HOSTILE)
def test_markup_in_names_stays_text(name: str, written: Path, report: Report) -> None:
    """Each page has the tags, attributes and links of the harmless report, and shows the name as it is."""
    values = with_hostile_texts(json.loads((written / "report.json").read_text()), name)
    hostile = from_json(Report, json.dumps(values))
    shown = " ".join(name.split())
    images = {
        c.picture_file(p.name): np.zeros((2, 2, 3), np.uint8) for c in report.checkpoints for p in c.measured.pictures
    }
    odd_images = {
        c.picture_file(p.name): np.zeros((2, 2, 3), np.uint8) for c in hostile.checkpoints for p in c.measured.pictures
    }
    plain, page = Tags(report_page(report, images)), Tags(report_page(hostile, odd_images))
    assert (page.tags, page.attributes, page.links) == (plain.tags, plain.attributes, plain.links)
    assert shown in " ".join(page.text.split())

    read = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render
    for told, odd in (
        (summary_text([report]), summary_text([hostile])),
        (comparison_text(itself(report)), comparison_text(itself(hostile))),
    ):
        plain, page = Tags(read(told)), Tags(read(odd))
        assert page.tags - {"code"} == plain.tags - {"code"} and page.attributes == plain.attributes
        assert page.links == plain.links
        assert shown in " ".join(page.text.split())
        assert told.count("\n") == odd.count("\n")


def itself(report: Report) -> Comparison:
    """A report compared with itself."""
    both = pairs(report, report)
    return Comparison(((Path("a"), report), (Path("b"), report)), tuple(both[:2]), tuple(both[2:]))


def test_markdown_is_escaped_no_more_than_it_needs() -> None:
    for harmless in ("-0.50", "1.58", "± 0.2 over clips", "figures, 1,000 test pictures", "a (b) + c!", "1-a.png"):
        assert escaped(harmless) == harmless
    assert escaped("- a") == "\\- a" and escaped("1. a") == "1\\. a" and escaped("a_b|c") == "a\\_b\\|c"


def test_a_damaged_report_is_told_in_one_sentence(
    report: Report, written: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    small = to_json(replace(report, checkpoints=report.checkpoints[:1], over_seeds=()))
    figure = small.index('"figures"')
    damaged = tmp_path / "report.json"
    for content in (
        b"", b"[]", b"{}", b"\xff\xfe", b"null", b"[" * 100_000, small[: len(small) // 2].encode(),
        small.replace('"digits": 2', '"digits": -1').encode(), small.replace('"digits": 2', '"digits": 99999').encode(),
        small.replace('"better": "lower"', '"better": 3').encode(), small.replace('"checkpoints"', '"x\\ny"').encode(),
        f"{small[:figure]}\"figures\": [[]], {small[figure:]}".replace('"figures": [\n', '"f": [\n').encode(),
    ):  # fmt: skip
        damaged.write_bytes(content)
        for options in ({"compare": (written, damaged)}, {"summary": (damaged,)}):
            told = fails(1, lambda options=options: run(ReportConfig(**options), []))
            assert "damaged" in told and str(damaged) in told and len(told.splitlines()) == 1


def test_no_flipped_byte_ends_in_a_traceback(report: Report, tmp_path: Path) -> None:
    small = to_json(replace(report, checkpoints=report.checkpoints[:1], over_seeds=())).encode()
    rng, damaged = np.random.default_rng(0), tmp_path / "report.json"
    refused = 0
    for _ in range(200):
        content = bytearray(small)
        for place in rng.integers(len(content), size=2):
            content[place] = rng.integers(256)
        damaged.write_bytes(content)
        try:
            assert summary_text([read_report(damaged, "--summary")])
        except UserError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
    assert refused > 20


def test_runs_that_differ_in_their_seed_are_averaged(report: Report) -> None:
    row = next(row for row in report.over_seeds if row.figure.key == "error_with_bias")
    assert row.runs == ("first <run>", "second") and row.seeds == (0, 1)
    assert row.figure.spread == 0 and row.figure.spread_over == "seeds"
    assert row.figure.value == report.checkpoints[0].measured["error_with_bias"].value


def checkpoint(value: float, seed: int, **changed: Any) -> Checkpoint:
    given: dict[str, Any] = {"data": "figures", "count": 9, "samples": "pictures", "protocol": "p", "better": "lower"}
    figure = Figure("a", "A", value, **given | changed)
    training = Training({"seed": seed, "steps": 3, "out": f"o{seed}"}, {}, {})
    name = f"run{seed}"
    return Checkpoint(name, name, "autolink", "keypoints and graph", "0" * 64, 9, 1.0, {"keypoints": 4}, training,
                      Section((figure,)))  # fmt: skip


def test_spread_over_seeds_is_the_standard_deviation() -> None:
    (row,) = over_seeds([checkpoint(1.0, 0), checkpoint(2.0, 1), checkpoint(4.5, 2)])
    assert row.figure.value == 2.5 and row.figure.spread == pytest.approx(np.std([1, 2, 4.5], ddof=1))
    longer = replace(checkpoint(2.0, 1), training=Training({"seed": 1, "steps": 4}, {}, {}))
    assert not over_seeds([checkpoint(1.0, 0), longer])
    assert not over_seeds([checkpoint(1.0, 0), checkpoint(2.0, 1, count=10)])


def test_published_figures_stand_only_beside_their_own_protocol() -> None:
    assert beside([checkpoint(1.0, 0)]) == ()
    ours = replace(checkpoint(5.0, 0, data="celeba-wild").measured.figures[0], key="published_error")
    rows = beside([replace(checkpoint(5.0, 0), measured=Section((ours,)))])
    assert {row.data for row in rows} == {"celeba-wild"} and rows[0].ours
    assert [(row.keypoints, row.value) for row in rows] == [(4, 5.0), (4, 6.11), (8, 5.24)]
    assert [row.shown for row in beside_human36m()] == ["3.00", "2.76", "1.92 to 2.23", "4.45"]


def beside_human36m() -> tuple[PublishedFigure, ...]:
    ours = replace(checkpoint(3.0, 0, data="human36m").measured.figures[0], key="published_error")
    return beside([replace(checkpoint(3.0, 0), measured=Section((ours,)))])


def stored(folder: Path, *checkpoints: Checkpoint) -> Path:
    folder.mkdir()
    report = Report("a report", "now", 1.0, "python", 0, {}, {"commit": "abc"}, checkpoints, (), ())
    (folder / "report.json").write_text(to_json(report))
    return folder / "report.json"


def with_figures(of: Checkpoint, *figures: Figure) -> Checkpoint:
    return replace(of, measured=Section((*of.measured.figures, *figures)))


def test_two_reports_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [
        with_figures(checkpoint(value, seed), Figure("b", "B", 1.0, "figures", clips, "clips", "p", group="G"))
        for value, seed, clips in ((3.0, 0, 40), (2.5, 1, 20))
    ]
    paths = stored(tmp_path / "a", parts[0]), stored(tmp_path / "b", parts[1])
    run(ReportConfig(compare=paths, out=tmp_path / "both"), [])
    said = capsys.readouterr().out
    assert "-0.50" in said and "better" in said and "count 40 against 20" in said
    assert (tmp_path / "both" / "comparison.md").read_text() == said
    assert [p.name for p in (tmp_path / "both").iterdir()] == ["comparison.md"]
    found = compare(*paths)
    assert [pair.difference for pair in found.figures] == [-0.5] and len(found.refused) == 1


def test_overlapping_intervals_are_named(tmp_path: Path) -> None:
    first, near, far = (
        stored(tmp_path / str(v), checkpoint(v, 0, interval_95=(v - 0.3, v + 0.3))) for v in (1.0, 1.5, 2.0)
    )
    assert compare(first, near).figures[0].verdict == "worse, intervals overlap"
    assert compare(far, first).figures[0].verdict == "better"


def test_a_report_compared_with_itself_is_equal(written: Path) -> None:
    found = compare(written, written / "report.json")
    assert not found.refused
    assert {pair.verdict for pair in found.figures} <= {"equal", ""}


def test_figures_are_printed_as_they_are_meant() -> None:
    made = partial(Figure, "a", "A", data="d", count=1200, samples="s", protocol="p.")
    figure = made(1234.5, digits=1, spread=0.25, spread_over="clips", unit="%", baseline=2.0, baseline_name="chance")
    assert (figure.shown_value, figure.shown_spread, figure.shown_baseline) == (
        "1,234.5",
        "± 0.2 over clips",
        "chance 2.0",
    )
    assert (figure.label, figure.measured_on) == ("A, %", "d, 1,200 s")
    missing = made(float("nan"), interval_95=(1.0, 2.0))
    assert missing.shown_value == "" and missing.shown_spread == "1.00 to 2.00 (95 %)"
    assert from_json(Figure, to_json(missing)) == replace(missing, value=None)
    text = as_text([figure, replace(missing, group="g"), replace(figure, group="g", better="lower")])
    assert text.splitlines()[:3] == ["d, 1,200 s", "  A, %  1,234.5  ± 0.2 over clips  chance 2.0", "g: d, 1,200 s"]
    assert text.splitlines()[-1] == "  A, %  1,234.5  ± 0.2 over clips     chance 2.0  lower is better"


def test_names_that_are_no_text_can_be_written(tmp_path: Path) -> None:
    section = Section((), notes=("skipped caf\udce9.png: damaged",))
    assert from_json(Section, to_json(section)).notes == ("skipped caf?.png: damaged",)


def test_curves_are_read_and_drawn(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "loss": 2.0}\nnot json\n[]\n{"step": 2, "loss": NaN, "x": "a"}\n{"step": 3, "loss": 1}\n{'
    )
    assert read_curves(path) == {"loss": ((1, 2.0), (3, 1))}
    drawn = chart("loss", ((1, 2.0), (3, 1.0)), ())
    (x0, y0), (x1, y1) = (map(float, p.split(",")) for p in drawn.curve.split())
    assert x0 < x1 and y0 < y1 and (drawn.low, drawn.high) == ("1", "2")  # the loss falls
    assert chart("loss", ((5, 1.0),), ()).curve.count(",") == 1  # one value is a dot


def test_a_run_is_known_by_its_folder_or_its_model(tiny_checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    run_folder = started(tmp_path / "mine", tiny_checkpoint, str(pictures))
    given = [str(run_folder), str(run_folder / "model")]
    found = find_subjects(given, "auto", None)
    assert [subject.name for subject in found] == ["mine", "mine-2"]
    assert all(s.run == run_folder and s.data == str(pictures) for s in found)
    (run_folder / "config.json").unlink()
    (run_folder / "metrics.jsonl").unlink()
    (bare,) = find_subjects(given[:1], str(pictures), None)
    assert bare.folder == run_folder / "model" and bare.run is None and bare.training() is None


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("before")
    picture = {"pictures/a.png": np.zeros((4, 4, 3), np.uint8)}

    def full(path: Path, image: object, metadata: object = None) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr("autolink.draw.write_picture", full)
        write_folder(tmp_path / "out", {"report.json": "after"}, picture)
    assert (tmp_path / "out" / "report.json").read_text() == "before"
    write_folder(tmp_path / "out", {"report.json": "after"}, picture)
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

    assert "there is no checkpoint" in said(1, tmp_path / "none")
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
    assert "holds out no person" in said(1, moving)
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
    assert "is a file" in said(2, tiny_checkpoint, out=written / "report.html")


def test_bundled_checkpoints_are_chosen_by_what_they_know(tmp_path: Path) -> None:
    assert [path.name for path in bundled_for("auto")] == ["figures", "figures-transfer"]
    assert "animals" in [path.name for path in bundled_for("animals")]
    (tmp_path / "landmarks.csv").write_text(f"image,{','.join(f'x{n},y{n}' for n in range(68))}\n")
    assert [path.name for path in bundled_for(str(tmp_path))] == ["faces"]
    (tmp_path / "a.mp4").touch()
    assert [path.name for path in bundled_for(str(tmp_path))] == ["faces-transfer"]


def test_wrong_comparisons_are_told(fails: Callable[..., str], tmp_path: Path) -> None:
    one = stored(tmp_path / "one", checkpoint(1.0, 0))
    other = stored(tmp_path / "other", checkpoint(1.0, 0, data="animals"))
    none = stored(tmp_path / "none", replace(checkpoint(1.0, 0), kind="gan", name="else"))
    (tmp_path / "bad.json").write_text('{"checkpoints": [{}]}')

    def said(code: int, second: Path, **options: Any) -> str:
        return fails(code, lambda: run(ReportConfig(compare=(one, second), **options), []))

    assert "A: data 'figures' against 'animals'" in said(1, other)
    assert "no figure of the same kind" in said(1, none)
    assert "is no report of this command" in said(1, tmp_path / "bad.json")
    assert "there is no such file" in said(2, tmp_path / "missing.json")
    assert "measures nothing" in said(2, one, checkpoints=("x",))
    assert "no report, such as" in said(2, one, out=tmp_path)


def test_a_summary_is_one_table_of_main_figures_a_kind(report: Report) -> None:
    text = summary_text([report])
    parts = text.split("**")[1:]
    assert parts[::2] == ["Keypoints and graph", "Pose transfer", "Conditional GAN", "Judge of joints"]
    by_kind = [report.checkpoints[:2], *((one,) for one in report.checkpoints[2:])]
    for checkpoints, part in zip(by_kind, parts[1::2], strict=True):
        headlines = [figure for c in checkpoints for figure in c.headlines]
        rows = [line for line in part.splitlines() if line.startswith("| ")][2:]
        assert len(rows) == len(headlines)
        for row, figure in zip(rows, headlines, strict=True):
            assert escaped(figure.label) in row and figure.shown_value in row and figure.shown_baseline in row
        for one in checkpoints:
            assert f"weights {one.weights_sha256[:12]}; on {one.headlines[0].measured_on}" in part
    assert text.count("`python eval/report.py --out report`, seed 0, commit") == len(report.checkpoints)


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
