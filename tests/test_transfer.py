import json
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import tyro
from PIL import Image
from test_pairs import write_clip
from test_translator import transfer_model

from autolink import transfer_video as transfer_from_python
from autolink.data.figures import figure_clip
from autolink.errors import UserError
from autolink.generation import subjects, transfer, transfer_video
from autolink.generation.motion import pose_distance
from autolink.generation.networks import Networks, choose_checkpoint
from autolink.generation.redrawing import redraw
from autolink.generation.subjects import Appearance
from autolink.generation.transfer_options import TransferConfig, TransferOptions
from autolink.generation.translator import PoseTransfer
from autolink.progress import silent
from autolink.video import clip
from autolink.video import files as video
from autolink.video.clip import Clip
from autolink.video.container import VideoError
from autolink.video.crop import Crop
from autolink.video.motion import read_motion
from autolink.video.subject import Localization, find_subject
from autolink.video.writer import VideoWriter


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer") / "model"
    transfer_model().save_pretrained(folder)
    return folder


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with src.mp4 and driver.mp4; the untrained detector is taken to know every subject."""
    write_clip(tmp_path / "src.mp4", 4, 1)
    write_clip(tmp_path / "driver.mp4", 11, 2)
    monkeypatch.chdir(tmp_path)

    def known(*arguments: object) -> Localization:
        return find_subject(*arguments)._replace(settled=True)  # type: ignore[arg-type]

    monkeypatch.setattr(subjects, "find_subject", known)
    return tmp_path


@pytest.fixture
def run(files: Path, checkpoint: Path) -> Callable[..., None]:
    def command(*more: str, src: str = "src.mp4", driver: str = "driver.mp4") -> None:
        arguments = ["--src", src, "--driver", driver, "--checkpoint", str(checkpoint), "--device", "cpu", *more]
        transfer.run(tyro.cli(TransferConfig, args=arguments))

    return command


def frames(path: Path) -> np.ndarray:
    return np.stack(list(video.read_frames(path)))


def test_the_result_has_the_drivers_length_and_rate(run: Callable[..., None], files: Path) -> None:
    run()
    assert frames(files / "result.mp4").shape[0] == 11
    assert video.video_facts(files / "result.mp4").rate == Fraction(25)
    assert {p.name for p in files.iterdir()} == {"src.mp4", "driver.mp4", "result.mp4"}


@pytest.mark.parametrize("motion", ["relative", "absolute", "retarget"])
@pytest.mark.parametrize("more", [[], ["--no-adapt-scale", "--best-frame", "3", "--smooth", "2", "--batch", "3"]])
def test_motions(run: Callable[..., None], files: Path, motion: str, more: list[str]) -> None:
    run("--motion", motion, *more)
    assert len(frames(files / "result.mp4")) == 11


def test_at_the_reference_frame_relative_motion_leaves_the_source_as_it_is(
    run: Callable[..., None], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[np.ndarray] = []

    def listening(networks: Networks, appearance: Appearance, poses: np.ndarray, *rest: Any) -> object:
        asked.extend(poses - appearance.keypoints[0])
        return redraw(networks, appearance, poses, *rest)

    monkeypatch.setattr(transfer_video, "redraw", listening)
    run("--best-frame", "4")
    moved = np.abs(asked).max((1, 2))
    assert moved[4] < 1e-6 and moved[[0, 10]].min() > 1e-3


def test_paste_back_keeps_the_picture_around(run: Callable[..., None], files: Path) -> None:
    rng = np.random.default_rng(0)
    picture = np.asarray(Image.fromarray(rng.integers(60, 200, (6, 10), np.uint8)).resize((100, 60)).convert("RGB"))
    Image.fromarray(picture).save(files / "photo.png")
    run("--crop", "30,10,32,32", "--paste-back", src="photo.png")
    result = frames(files / "result.mp4")
    assert result.shape == (11, 60, 100, 3)
    outside = np.ones((60, 100), bool)
    outside[8:44, 28:64] = False
    assert np.abs(result[:, outside].astype(float) - picture[outside]).mean() < 4
    assert np.abs(result[5, 18:34, 38:54].astype(float) - picture[18:34, 38:54]).mean() > 4


def test_side_by_side_shows_source_driver_result(run: Callable[..., None], files: Path) -> None:
    run("--side-by-side", "--crop", "none", "--size", "48")
    result = frames(files / "result.mp4")
    assert result.shape == (11, 48, 144, 3)
    source, driver = frames(files / "src.mp4")[0], frames(files / "driver.mp4")
    assert np.abs(result[7, :, :48].astype(float) - source).mean() < 6
    assert np.abs(result[:, :, 48:96].astype(float) - driver).mean() < 6


def test_keypoints_written_are_a_driver(run: Callable[..., None], files: Path) -> None:
    run("--keypoints", "pose.json")
    motion = read_motion(files / "pose.json")
    assert motion.keypoints.shape == (11, 5, 2) and motion.rate == Fraction(25)
    run("--out", "again.mp4", "--side-by-side", driver="pose.json")
    again, first = frames(files / "again.mp4"), frames(files / "result.mp4")
    side = first.shape[2]
    assert again.shape[0] == 11
    assert np.abs(again[:, :, -side:].astype(float) - first).mean() < 8


def test_sound_comes_from_where_it_is_asked(run: Callable[..., None], files: Path) -> None:
    for name, rate in (("src", 440), ("driver", 880)):
        _add_sound(files / f"{name}.mp4", rate)
    for choice, there in (("driver", True), ("source", True), ("none", False)):
        run("--audio", choice, "--out", f"with_{choice}.mp4")
        assert video.video_facts(files / f"with_{choice}.mp4").audio == there
    assert _pitch(files / "with_driver.mp4") == pytest.approx(880, rel=0.05)
    assert _pitch(files / "with_source.mp4") == pytest.approx(440, rel=0.05)


def _add_sound(path: Path, pitch: int) -> None:
    images = list(video.read_frames(path))
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=25)
        pictures.height, pictures.width, pictures.pix_fmt = *images[0].shape[:2], "yuv420p"
        sound = container.add_stream("aac", rate=44100, layout="mono")
        for image in images:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(pictures.encode(None))
        wave = np.sin(2 * np.pi * pitch * np.arange(44100 // 2) / 44100).astype(np.float32)[None] * 0.5
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def _pitch(path: Path) -> float:
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    wave = np.concatenate(parts)[2048:6144]
    return float(np.abs(np.fft.rfft(wave * np.hanning(len(wave)))).argmax() * 44100 / len(wave))


@pytest.mark.parametrize("checkpoint_name", ["", "faces-transfer"])
def test_overlapped_stages_write_the_same_bytes(
    run: Callable[..., None], files: Path, checkpoint_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One core's worth of threads computes in turn, three overlap; with children and without, beside the driver."""
    threads = torch.get_num_threads()
    face = ["--crop", "none", "--checkpoint", checkpoint_name] if checkpoint_name else []
    written = []
    try:
        for count in (1, 3):
            monkeypatch.setenv("OMP_NUM_THREADS", str(count))
            run("--batch", "2", "--side-by-side", "--overwrite", "--keypoints", "pose.json", *face)
            written.append([(files / name).read_bytes() for name in ("result.mp4", "pose.json")])
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert written[0] == written[1]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("stage", ["driver", "redrawing", "writing"])
def test_a_stop_in_any_stage_leaves_nothing(
    run: Callable[..., None], files: Path, stop: type[BaseException], stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, running, calls = set(files.iterdir()), threading.active_count(), iter(range(1000))

    def stopping(original: Callable[..., Any]) -> Callable[..., Any]:
        def method(*arguments: Any, **named: Any) -> Any:
            if next(calls) == 3:
                raise stop
            return original(*arguments, **named)

        return method

    place, name = {
        "driver": (Networks, "details"), "redrawing": (PoseTransfer, "forward"), "writing": (VideoWriter, "write")
    }[stage]  # fmt: skip
    monkeypatch.setattr(place, name, stopping(getattr(place, name)))
    monkeypatch.setattr(subjects, "LOOKED_AT", 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    threads = torch.get_num_threads()
    try:
        with pytest.raises(stop):
            run("--batch", "1")
    finally:
        torch.set_num_threads(threads)
    assert set(files.iterdir()) == before and threading.active_count() == running


def test_finetuning_comes_nearer_to_the_source(run: Callable[..., None], files: Path, checkpoint: Path) -> None:
    from autolink.generation.finetune import finetuned
    from autolink.generation.translator import PoseTransfer

    model = PoseTransfer.from_pretrained(checkpoint)
    pictures = np.stack([np.asarray(Image.fromarray(f).resize((32, 32))) for f in frames(files / "src.mp4")])
    adapted = finetuned(model, pictures, 30, torch.device("cpu"))
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    poses = model.stage_one.keypoints(images)

    def error() -> float:
        result = model.transfer(images[:1, None].expand(len(images), 1, 3, 32, 32), poses)
        return (result - images).abs().mean().item()

    before = error()
    model.translator = adapted
    assert error() < before
    run("--finetune", "2")


def test_dry_run_says_and_writes_nothing(
    run: Callable[..., None], files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--dry-run")
    said = capsys.readouterr().out
    assert "11 frames at 25 a second" in said and "nothing was written" in said
    assert not (files / "result.mp4").exists()


def test_far_poses_are_warned_of_with_the_number(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transfer_video, "FAR", -1.0)
    run("--dry-run")
    assert "is far from the source's pose: " in capsys.readouterr().err


def test_damage_in_the_middle_is_told_and_the_rest_used(
    run: Callable[..., None], files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = video.read_frames

    def breaking(path: Path) -> object:
        for n, frame in enumerate(whole(path)):
            if path.name == "driver.mp4" and n == 6:
                raise VideoError("driver.mp4 is damaged")
            yield frame

    monkeypatch.setattr(clip, "read_frames", breaking)
    run("--side-by-side")
    assert "the 6 frames that could be read are used" in capsys.readouterr().err
    monkeypatch.undo()
    assert len(frames(files / "result.mp4")) == 6


@pytest.mark.parametrize(
    ("code", "more", "said"),
    [(2, ["--src", "no.mp4"], "--src no.mp4 does not exist"), (2, ["--out", "src.mp4"], "is an input as well"),
     (2, ["--out", "no/r.mp4"], "the folder no does not exist"), (2, ["--out", "result.txt"], "ends in .mp4 or .gif"),
     (2, ["--best-frame", "x"], "--best-frame"), (2, ["--best-frame", "99"], "the driver has 11 frames"),
     (2, ["--crop", "1,2"], "--crop"), (2, ["--crop", "900,0,9,9"], "lies outside"),
     (2, ["--smooth", "-1"], "--smooth"), (2, ["--start", "2", "--end", "1"], "--start and --end"),
     (1, ["--start", "9"], "is over before 9 s"),
     (2, ["--batch", "0"], "--batch"), (2, ["--size", "1"], "--size"), (2, ["--keypoints", "k.txt"], "in .json"),
     (2, ["--device", "cuda"], "--device cuda"), (1, ["--checkpoint", "."], "no config.json"),
     (1, ["--driver", "text.mp4"], "text.mp4"), (1, ["--driver", "bad.json"], "bad.json"),
     (1, ["--driver", "other.json"], "has 3 keypoints")],
)  # fmt: skip
def test_faults_are_one_sentence(
    code: int, more: list[str], said: str, run: Callable[..., None], files: Path, fails: Callable[..., str]
) -> None:
    if "--device" in more and torch.cuda.is_available():
        pytest.skip("there is a graphics card")
    (files / "text.mp4").write_text("no video")
    (files / "bad.json").write_text("{")
    pose = [[[1.0, 2.0], [3.0, 4.0], [5.0, 1.0]]]
    (files / "other.json").write_text(json.dumps({"rate": "25", "width": 9, "height": 9, "frames": pose}))
    before = {p.name for p in files.iterdir()}
    assert said in fails(code, lambda: run(*more))
    assert {p.name for p in files.iterdir()} == before


def test_an_existing_result_is_kept(run: Callable[..., None], files: Path, fails: Callable[..., str]) -> None:
    (files / "result.mp4").write_text("mine")
    assert "--overwrite" in fails(2, run)
    assert (files / "result.mp4").read_text() == "mine"
    run("--overwrite")
    assert len(frames(files / "result.mp4")) == 11


def test_no_subject_is_told(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    monkeypatch.setattr(subjects, "find_subject", lambda image, *rest: Localization(None, False, 1.0))  # type: ignore[arg-type]
    assert "--crop none" in fails(1, run)


def test_a_video_may_begin_in_the_dark(tmp_path: Path) -> None:
    """The subject is found further on, by the bundled detector of rendered people, in source and driver."""
    with VideoWriter(tmp_path / "late.mp4", Fraction(25)) as writer:
        for n, frame in enumerate(figure_clip(9, 4, 96)[0]):
            writer.write(np.zeros_like(frame) if n < 2 else frame)
    late = tmp_path / "late.mp4"
    source = Clip.of(late)
    name, networks = choose_checkpoint(source, "auto", torch.device("cpu"))
    assert name == "figures-transfer"
    options = TransferOptions(device="cpu")
    appearance = subjects.read_appearance(source, options, networks)
    assert appearance.pictures[0].mean() > 30
    driving = subjects.read_driving_motion(source, options, networks, appearance, silent)
    assert driving.motion.keypoints.shape[0] == 9


def test_empty_frames_are_not_searched_for_the_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = figure_clip(1, 4, 96)[0][0]
    with VideoWriter(tmp_path / "late.mp4", Fraction(25)) as writer:
        for n in range(40):
            writer.write(shown if n == 39 else np.full_like(shown, 255 * (n % 2)))
    looked: list[float] = []
    networks = Networks(PoseTransfer.from_pretrained("figures-transfer"), torch.device("cpu"))
    original = networks.detect

    def detect(crops: np.ndarray) -> np.ndarray:
        looked.extend(crops.std((1, 2, 3)).tolist())
        return original(crops)

    monkeypatch.setattr(networks, "detect", detect)
    late = Clip.of(tmp_path / "late.mp4")
    seen = subjects.follow_driver(late, False, networks, silent)
    assert seen.empty[:39].all() and not seen.empty[39]
    assert sum(deviation < 3 for deviation in looked) <= 1  # the one that tells how many keypoints there are


def test_a_head_out_of_a_whole_body_is_announced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    scene = np.random.default_rng(0).integers(90, 110, (300, 400, 3)).astype(np.uint8)
    scene[100:196, 150:246] = figure_clip(1, 4, 96)[0][0]
    Image.fromarray(scene).save(tmp_path / "scene.png")
    box = TransferConfig(src=tmp_path / "scene.png", driver=tmp_path / "scene.png", crop="150,100,96,96",
                         checkpoint="figures-transfer", device="cpu", dry_run=True, out=tmp_path / "o.mp4")  # fmt: skip
    transfer.run(box)
    said = capsys.readouterr().out
    assert "head only: no body model is bundled; of the source, 400x300, a square of 96 px is redrawn" in said
    assert "square of 96 px (--size changes that)" in said


def test_a_source_that_overfills_its_picture_is_seen_as_its_driver_is(tmp_path: Path) -> None:
    """One and the same video: its first frame must stand for the source's pose, though only the source is cut there."""
    with VideoWriter(tmp_path / "near.mp4", Fraction(25)) as writer:
        for frame in figure_clip(6, 4, 160)[0]:
            writer.write(np.ascontiguousarray(frame[16:-16, 16:-16]))
    near = Clip.of(tmp_path / "near.mp4")
    networks = Networks(PoseTransfer.from_pretrained("figures-transfer"), torch.device("cpu"))
    appearance = subjects.read_appearance(near, TransferOptions(), networks)
    driving = subjects.read_driving_motion(near, TransferOptions(), networks, appearance, silent)
    assert appearance.crop == Crop(0, 0, 128)
    assert driving.crop.side > 130
    chosen = list(networks.model.layout.chosen)
    apart = pose_distance(appearance.keypoints[0, chosen], driving.motion.keypoints[:, chosen])
    assert apart[0] < 0.03 and apart.argmin() == 0


def test_the_bundled_checkpoint_that_knows_the_source_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    person = write_clip(tmp_path / "person.mp4", 3, 1)
    name, known = choose_checkpoint(Clip.of(person), "auto", torch.device("cpu"))
    assert name == "figures-transfer" and known.model.size == 64
    monkeypatch.chdir(tmp_path)
    transfer.run(TransferConfig(src=person, driver=person, device="cpu"))
    assert "checkpoint figures-transfer" in capsys.readouterr().out
    assert len(frames(tmp_path / "result.mp4")) == 3


def test_python_and_the_command_redraw_the_same(run: Callable[..., None], files: Path, checkpoint: Path) -> None:
    """Frames in memory, a model in memory: what the command wrote, before it was compressed."""
    run("--motion", "retarget", "--smooth", "1")
    source, driver = frames(files / "src.mp4"), frames(files / "driver.mp4")
    model = PoseTransfer.from_pretrained(checkpoint)
    result = transfer_from_python(source, driver, model, rate=30, motion="retarget", smooth=1.0, device="cpu")
    assert len(result) == 11 and result.rate == 30
    redrawn = np.stack(list(result))
    assert redrawn.dtype == np.uint8
    assert (
        np.abs(redrawn.astype(float) - frames(files / "result.mp4")[:, : redrawn.shape[1], : redrawn.shape[2]]).mean()
        < 4
    )
    from_files = transfer_from_python("src.mp4", "driver.mp4", checkpoint, motion="retarget", smooth=1.0, device="cpu")
    assert from_files.rate == 25
    np.testing.assert_array_equal(np.stack(list(from_files)), redrawn)
    np.testing.assert_array_equal(np.stack(list(from_files)), redrawn)  # a second time


def test_the_users_model_stays_as_it_is(files: Path, checkpoint: Path) -> None:
    model = PoseTransfer.from_pretrained(checkpoint)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    next(iter(transfer_from_python("src.mp4", "driver.mp4", model, finetune=1, device="cpu")))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("source", "driver", "options", "said"),
    [
        ("no.mp4", "driver.mp4", {}, "no.mp4 does not exist"),
        ("src.mp4", [], {}, "give a picture file"),
        ("src.mp4", [np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)], {}, "one size"),
        ("src.mp4", "driver.mp4", {"motion": "wild"}, "--motion is relative, absolute or retarget"),
        ("src.mp4", "driver.mp4", {"model": "faces"}, "where a pose transfer is wanted"),
    ],
)
def test_python_is_told_in_one_sentence(
    source: object, driver: object, options: dict[str, object], said: str, files: Path, checkpoint: Path
) -> None:
    with pytest.raises(UserError, match=said):
        transfer_from_python(source, driver, **{"model": checkpoint, **options})  # type: ignore[arg-type]


def test_a_part_of_the_driver(run: Callable[..., None], files: Path, checkpoint: Path) -> None:
    run("--start", "0.08", "--end", "0.2", "--keypoints", "part.json")
    assert len(frames(files / "result.mp4")) == 3  # the third to the fifth of 25 a second
    run("--out", "from_json.mp4", "--start", "0.04", driver="part.json")
    assert len(frames(files / "from_json.mp4")) == 2
    assert len(transfer_from_python("src.mp4", "driver.mp4", checkpoint, start=0.2, device="cpu")) == 6


def test_results_say_that_they_are_synthetic(run: Callable[..., None], files: Path) -> None:
    run("--watermark", "--size", "128")
    with av.open(str(files / "result.mp4")) as container:
        told = dict(container.metadata)
    assert told["synthetic"] == "true" and "AutoLink" in told["comment"]
    marked = frames(files / "result.mp4").astype(float)
    run("--out", "plain.mp4", "--size", "128")
    changed = np.abs(marked - frames(files / "plain.mp4")).mean((0, 3))
    assert changed.max() > 20 and np.median(changed) < 4
