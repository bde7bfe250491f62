"""Every kind of file that a command reads, damaged: it is read or told in one sentence, and nothing else happens."""

import io
import json
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import TINY, annotated_pictures
from faults import Change, damaged, hostile_cells, hostile_json, verdict, verdicts
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from autolink import AutoLink, Gan, ModelConfig, PoseTransfer, train
from autolink.checkpoints import bundled
from autolink.convert import read_checkpoint
from autolink.data.figures import figure_clip
from autolink.data.images import load_images
from autolink.data.listing import read_mat
from autolink.data.pickled_table import read_names_and_points
from autolink.eval import fid
from autolink.eval.feature_networks import Extractor
from autolink.eval.reporting.compare import compare, read_report
from autolink.eval.reporting.content import Checkpoint, Report
from autolink.eval.reporting.inputs import read_curves
from autolink.eval.reporting.render import comparison_text, report_page, summary_text
from autolink.eval.results import Figure, Section, to_json
from autolink.files import read_weights
from autolink.generation.structures import read_structures
from autolink.log import Log
from autolink.pictures import decode_reduced
from autolink.regression import default_lengths
from autolink.run_state import RunFolder, config_to_json, read_run_config
from autolink.video.files import read_frames, video_facts
from autolink.video.motion import Motion, edge_matrix, read_motion, smooth, write_motion
from autolink.video.writer import VideoWriter

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


class Kind(NamedTuple):
    """A file, what reads it, and how it is damaged."""

    path: Path
    read: Callable[[], object]
    changes: tuple[Change, ...] = (damaged,)


Lay = Callable[[Path], Kind]
"""Lays the whole file and what belongs to it into an empty folder."""

NOISE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
TURNED = Image.Exif()
TURNED[0x0112] = 6
MODEL = ModelConfig(keypoints=5, size=32, detector_channels=(4, 8, 8), decoder_channels=(4, 8, 8))


def picture(form: str, mode: str = "RGB", ending: str = ".png", **options: Any) -> Lay:
    def lay(folder: Path) -> Kind:
        path = folder / f"one{ending}"
        image = Image.fromarray(NOISE).resize((96, 80))
        deep = Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)
        (deep if mode == "I;16" else image.convert(mode)).save(path, form, **options)

        def read() -> None:
            decode_reduced(path, 96)
            load_images(folder, 32, "stretch")

        return Kind(path, read)

    return lay


def zipped(folder: Path) -> Kind:
    path = folder / "set.zip"
    for n, packing in enumerate((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)):
        file = io.BytesIO()
        Image.fromarray(NOISE).rotate(20 * n).save(file, "PNG")
        with zipfile.ZipFile(path, "a", packing) as archive:
            archive.writestr(f"a/{n}.png", file.getvalue())
    return Kind(path, lambda: load_images(path, 32, "stretch"), (damaged, tail))


def tail(content: bytes, dice: random.Random) -> bytes:
    """Only the last part damaged, where the tables of zips and of some videos are."""
    return content[:-1500] + damaged(content[-1500:], dice)


def video(ending: str, codec: str, form: str) -> Lay:
    def lay(folder: Path) -> Kind:
        path = folder / f"clip{ending}"
        with av.open(str(path), "w", format=form) as container:
            stream = container.add_stream(codec, rate=25, width=64, height=64, pix_fmt="yuv420p")
            assert isinstance(stream, av.VideoStream)
            for frame in figure_clip(12, 1, 64)[0]:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        return Kind(path, lambda: watched(path), (damaged, tail))

    return lay


def watched(path: Path) -> None:
    video_facts(path)
    for _ in read_frames(path):
        pass


def gif(folder: Path) -> Kind:
    path = folder / "clip.gif"
    with VideoWriter(path, Fraction(25)) as writer:
        for frame in figure_clip(8, 1, 48)[0]:
            writer.write(frame)
    return Kind(path, lambda: watched(path))


def weights(folder: Path) -> Kind:
    AutoLink(MODEL).save_pretrained(folder)
    return Kind(folder / "model.safetensors", lambda: AutoLink.from_pretrained(folder))


def configuration(network: type[AutoLink | PoseTransfer | Gan], name: str) -> Lay:
    def lay(folder: Path) -> Kind:
        if name:
            shutil.copytree(bundled()[name], folder, dirs_exist_ok=True)
        else:
            AutoLink(MODEL).save_pretrained(folder)
        path = folder / "config.json"
        return Kind(path, lambda: network.from_pretrained(folder), (damaged, hostile_json, hostile_json))

    return lay


def authors(old: bool) -> Lay:
    def lay(folder: Path) -> Kind:
        path = folder / "model.ckpt"
        parameters = {"n_parts": 4, "thick": 1e-3, "sklr": 512, "image_size": 128}
        values = {"state_dict": {"a.weight": torch.ones(3, 3)}, "hyper_parameters": parameters}
        torch.save(values, path, _use_new_zipfile_serialization=not old)
        return Kind(path, lambda: (read_checkpoint(path), read_weights("--weights", path)))

    return lay


def landmarks(folder: Path) -> Kind:
    annotated_pictures(folder, 8)

    def read() -> None:
        annotation = load_images(folder, 32, "stretch").annotation
        if annotation is not None:
            default_lengths(annotation)

    return Kind(folder / "landmarks.csv", read, (damaged, hostile_cells))


def motion(folder: Path) -> Kind:
    path = folder / "motion.json"
    write_motion(path, Motion(np.arange(60.0).reshape(6, 5, 2), Fraction(25), 64, 64, np.full(10, 0.5)))

    def read() -> None:
        found = read_motion(path)
        smooth(found.keypoints, 2.0)
        if found.weights is not None:
            edge_matrix(found.weights, found.keypoints.shape[1])

    return Kind(path, read, (damaged, hostile_json))


def structures(moving: bool) -> Lay:
    def lay(folder: Path) -> Kind:
        gan = Gan.from_pretrained("pets-gan")
        points = [[float(k), 2.0] for k in range(gan.config.keypoints)]
        path = folder / "keypoints.json"
        image = {"image": "cat/0.png", "width": 64, "height": 48, "keypoints": points}
        frames = {"rate": "25", "width": 64, "height": 48, "frames": [points] * 3}
        path.write_text(json.dumps(frames if moving else {"images": [image] * 3}))
        return Kind(path, lambda: read_structures(gan, (path,), 2), (damaged, hostile_json))

    return lay


def metrics(folder: Path) -> Kind:
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": n, "loss": 1 / n}) + "\n" for n in range(1, 30)))

    def read() -> None:
        read_curves(path)
        Log(folder, 10, Accelerator(cpu=True)).close()

    def hostile_line(content: bytes, dice: random.Random) -> bytes:
        lines = content.splitlines()
        n = dice.randrange(len(lines))
        return b"\n".join([*lines[:n], hostile_json(lines[n], dice), *lines[n + 1 :]])

    return Kind(path, read, (damaged, hostile_line))


def checkpoint_to_resume(file: str, *changes: Change) -> Lay:
    def lay(folder: Path) -> Kind:
        data = folder / "data"
        data.mkdir()
        annotated_pictures(data, 8)
        config = train.parse_config([*TINY, "--data", str(data), "--out", str(folder / "run")])
        run = RunFolder(folder / "run")
        trainer = train.Trainer(config, Accelerator(cpu=True), load_images(data, 32, "stretch"))
        trainer.train_step()
        trainer.save(run)
        (run.path / "config.json").write_text(json.dumps(config_to_json(config)))

        def read() -> None:
            read_run_config(config, run.path)
            trainer.load(run)

        return Kind(run.path / file, read, changes)

    return lay


def statistics(folder: Path) -> Kind:
    network = Extractor("efficientnet-lite0", torch.nn.Identity(), 32, 8, torch.device("cpu"))
    features: NDArray[np.float32] = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    fid.save_statistics(folder / "a.npz", fid.Side(features, "x", {}), network)
    return Kind(folder / "a.npz", lambda: fid.load_statistics(folder / "a.npz", network), (damaged, tail))


def pickled(folder: Path) -> Kind:
    path = folder / "table.pkl"
    blocks = np.empty((2, 3), object)
    blocks[0], blocks[1] = ["a.png", "b.png", "c.png"], [np.ones((4, 2)) * n for n in range(3)]
    path.write_bytes(pickle.dumps({"blocks": blocks}))
    return Kind(path, lambda: read_names_and_points(path))


def matlab(folder: Path) -> Kind:
    savemat(folder / "a.mat", {"x": np.arange(12.0).reshape(3, 4)}, do_compression=True)
    return Kind(folder / "a.mat", lambda: read_mat(folder / "a.mat", "x"))


def report(folder: Path) -> Kind:
    figure = Figure(
        "k", "n", 1.0, "d", 10, "s", "p", better="lower", group="g", interval_95=(0.5, 1.5), headline=True
    )  # fmt: skip
    checkpoint = Checkpoint("a", "1-a", "autolink", "x", "0" * 64, 5, 1.0, {}, None, Section((figure,)))
    whole, path = folder / "whole.json", folder / "report.json"
    for file in (whole, path):
        file.write_text(to_json(Report("t", "now", 1.0, "c", 0, {}, {"commit": "c"}, (checkpoint,), (), ())))

    def read() -> None:
        found = read_report(path, "--summary")
        summary_text([found])
        report_page(found, {})
        comparison_text(compare(path, whole))

    return Kind(path, read, (damaged, hostile_json))


KINDS: dict[str, Lay] = {
    "jpeg": picture("JPEG", ending=".jpg", exif=TURNED),
    "jpeg, progressive": picture("JPEG", ending=".jpg", progressive=True),
    "png": picture("PNG"),
    "png, palette": picture("PNG", "P", transparency=3),
    "png, 16 bits": picture("PNG", "I;16"),
    "png, moving": picture("PNG", save_all=True, append_images=[Image.fromarray(NOISE[::-1]).resize((96, 80))]),
    "webp": picture("WEBP", ending=".webp", quality=80),
    "webp, lossless": picture("WEBP", ending=".webp", lossless=True),
    "avif": picture("AVIF", ending=".avif"),
    "tiff": picture("TIFF", compression="tiff_lzw"),
    "gif": picture("GIF", "P"),
    "bmp": picture("BMP", ending=".jpg"),
    "jpeg 2000": picture("JPEG2000", ending=".jp2"),
    "ppm": picture("PPM"),
    "not read: tga": picture("TGA", compression="tga_rle"),
    "not read: ico": picture("ICO"),
    "not read: pcx": picture("PCX"),
    "not read: eps": picture("EPS", ending=".jpg"),
    "zip": zipped,
    "mp4": video(".mp4", "libx264", "mp4"),
    "avi": video(".avi", "mpeg4", "avi"),
    "webm": video(".webm", "libvpx-vp9", "webm"),
    "ts": video(".ts", "mpeg2video", "mpegts"),
    "flv": video(".flv", "flv", "flv"),
    "wmv": video(".wmv", "wmv2", "asf"),
    "mkv": video(".mkv", "ffv1", "matroska"),
    "gif, moving": gif,
    "weights": weights,
    "configuration of keypoints": configuration(AutoLink, ""),
    "configuration of a transfer": configuration(PoseTransfer, "figures-transfer"),
    "configuration of a GAN": configuration(Gan, "pets-gan"),
    "authors' checkpoint": authors(old=False),
    "authors' checkpoint, old": authors(old=True),
    "landmarks.csv": landmarks,
    "motion": motion,
    "structures of pictures": structures(moving=False),
    "structures of a video": structures(moving=True),
    "metrics.jsonl": metrics,
    "tensors to resume": checkpoint_to_resume("checkpoints/step-0000001/training.safetensors", damaged),
    "state to resume": checkpoint_to_resume("checkpoints/step-0000001/state.json", damaged, hostile_json),
    "configuration of a run": checkpoint_to_resume("config.json", damaged, hostile_json),
    "statistics": statistics,
    "pickle": pickled,
    "mat": matlab,
    "report.json": report,
}


def faults(lay: Lay, name: str, folder: Path, count: int) -> dict[int, str]:
    """What went wrong with damaged files, by their number, which is their seed."""
    kind = lay(folder)
    assert verdict(kind.read) == ("told" if name.startswith("not read") else "read")  # imports all that is needed, too
    whole = kind.path.read_bytes()
    dice = [random.Random(f"{name} {n}") for n in range(count)]
    contents = [kind.changes[n % len(kind.changes)](whole, d) for n, d in enumerate(dice)]
    found = verdicts(kind.read, kind.path, contents)
    return {n: told for n, told in enumerate(found) if told not in ("read", "told")}


@pytest.mark.usefixtures("fresh_accelerator")
@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_read_or_told(name: str, tmp_path: Path) -> None:
    assert faults(KINDS[name], name, tmp_path, 4) == {}


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_accelerator")
@pytest.mark.parametrize("name", KINDS)
def test_many_damaged_files_are_read_or_told(name: str, tmp_path: Path) -> None:
    """5,000 in all."""
    assert faults(KINDS[name], name, tmp_path, -(-5000 // len(KINDS))) == {}
