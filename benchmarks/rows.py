"""What the table measures, a function an item; each runs in a process of its own."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import av
import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from autolink.config import PRESETS
from autolink.data import load_data, rendered_figures
from autolink.data.figures import figure_clip, figure_images
from autolink.data.picture import squares
from autolink.device import keep_memory, pick_precision
from autolink.edge_map import edge_map
from autolink.generation.transfer_video import transfer_video
from autolink.generation.translator import PoseTransfer
from autolink.inference import detect_all
from autolink.model import AutoLink
from autolink.train import Trainer
from autolink.video.files import read_frames
from autolink.video.writer import VideoWriter
from benchmarks import extraction, gan_step, train_step
from benchmarks.authors import published
from benchmarks.edge_map import graph, materialised, peak_megabytes
from benchmarks.rounds import Row, milliseconds, not_measured, ratios, spread, turns


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    authors: Path | None = None
    """A clone of the authors' code, github.com/xingzhehe/AutoLink-Self-supervised-..."""
    fomm: Path | None = None
    """A clone of github.com/AliaksandrSiarohin/first-order-model."""
    rounds: int = 5
    """Measurements of each, turn by turn; the GAN's and the paper's steps are measured three times."""
    threads: int = 2
    """CPU threads, but for extraction, which has one."""
    keypoints: tuple[int, ...] = (8, 16, 32)
    """Numbers of keypoints of edge maps and of the paper's networks."""
    batch: int = 4
    """Pictures of an edge map and of a step of the paper's networks: the authors' code needs some GB for each of 32
    keypoints."""
    size: int = 128
    """Side of edge maps in pixels."""
    frames: int = 100
    """Frames of a rendered clip, and pictures that are loaded."""
    side: int = 256
    """Their sides in pixels."""


def forward_and_backward(draw: Callable[[], Tensor]) -> None:
    """Once."""
    draw().sum().backward()


def edge_maps(sizes: Sizes) -> list[Row]:
    """Forward and backward, against the formula and the authors' lines and maximum."""
    rows = []
    for K in sizes.keypoints:
        keypoints, weights = graph(K, sizes.batch)
        draws: dict[str, Callable[[], Tensor]] = {
            "ours": lambda k=keypoints, w=weights: edge_map(k, w, sizes.size, 1e-3),  # type: ignore[misc]
            "formula": lambda k=keypoints, w=weights: materialised(k, w, sizes.size, 1e-3),  # type: ignore[misc]
        }
        if sizes.authors:
            theirs = published(sizes.authors)[1].Decoder({"n_parts": K, "thick": 1e-3, "sklr": 512.0})
            draws["authors"] = lambda k=keypoints, net=theirs: net.rasterize(k, output_size=sizes.size)  # type: ignore[misc]
        found = turns({name: partial(forward_and_backward, draw) for name, draw in draws.items()}, sizes.rounds)
        what, command = f"edge map, {K} keypoints, {sizes.size} px", "python benchmarks/edge_map.py"
        for name, told in (("formula", "formula written out"), ("authors", "the authors' draw_lines and maximum")):
            if name in found:
                numbers = milliseconds(found["ours"]), f"{told}: {milliseconds(found[name])}"
                rows.append(Row(what, *numbers, ratios(found[name], found["ours"]), command))
            else:
                rows.append(not_measured(f"{what}, authors", "--authors", "python -m benchmarks"))
    return rows


def figures_step(sizes: Sizes) -> list[Row]:
    """A stage-one step of the figures preset: what is not networks, and the edge map's share."""
    found = train_step.measured(train_step.Benchmark(sizes.rounds, sizes.threads))
    step = found.pop("whole step")
    outside = [sum(one) for one in zip(*found.values(), strict=True)]
    command = "python benchmarks/train_step.py"
    shares = [("outside the networks", outside), ("edge map", found["edge map"])]
    return [
        Row(f"stage-one step, figures preset: {name}", milliseconds(part), f"whole step: {milliseconds(step)}",
            f"{spread([100 * a / b for a, b in zip(part, step, strict=True)])} %", command)
        for name, part in shares
    ]  # fmt: skip


def our_paper_step(K: int, batch: int, folder: Path) -> Callable[[], object]:
    """A step of ours at paper size; VGG16 with random weights, which take as long."""
    from torchvision.models.vgg import cfgs, make_layers

    keep_memory()
    weights = folder / f"vgg{K}.safetensors"
    save_file({f"features.{name}": value for name, value in make_layers(cfgs["D"]).state_dict().items()}, weights)
    run = replace(PRESETS[f"paper-k{K}"], batch=batch, feature_weights=weights)
    trainer = Trainer(run, Accelerator(mixed_precision=pick_precision()), rendered_figures(16, 4, run.model.size))
    trainer.model.train()
    return lambda: float(trainer.train_step())


def authors_paper_step(K: int, batch: int, checkout: Path) -> Callable[[], object]:
    """A step of theirs: their networks, perceptual loss and optimiser, in the precision of ours."""
    from torchvision.models.vgg import cfgs, make_layers

    keep_memory()
    encoder, decoder = published(checkout)
    run = PRESETS[f"paper-k{K}"]
    detect = encoder.Encoder(SimpleNamespace(n_parts=K, missing=run.masked, block=run.mask_blocks))
    rebuild = decoder.Decoder({"n_parts": K, "thick": run.model.thickness, "sklr": run.model.edge_learning_rate_scale})
    with patch("torchvision.models.vgg16", lambda weights: SimpleNamespace(features=make_layers(cfgs["D"]))):
        from utils_.loss import VGGPerceptualLoss

        perceptual = VGGPerceptualLoss()
    learned = [*detect.parameters(), *rebuild.parameters()]
    optimiser = torch.optim.AdamW(learned, lr=run.learning_rate, weight_decay=run.weight_decay)
    accelerator = Accelerator(mixed_precision=pick_precision())
    images = torch.rand(batch, 3, run.model.size, run.model.size) * 2 - 1

    def step() -> float:
        with accelerator.autocast():
            loss = perceptual(rebuild(detect({"img": images}, need_masked_img=True))["img"], images)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step


def paper_steps(sizes: Sizes, K: int) -> list[Row]:
    """A step at paper size, side by side."""
    what, command = f"stage-one step, paper-k{K}, batch {sizes.batch}", "python -m benchmarks --authors CLONE"
    if not sizes.authors:
        return [not_measured(what, "--authors", "python -m benchmarks")]
    with TemporaryDirectory() as folder:
        ours = our_paper_step(K, sizes.batch, Path(folder))
        works = {"ours": ours, "authors": authors_paper_step(K, sizes.batch, sizes.authors)}
        found = turns(works, min(3, sizes.rounds))
    numbers = milliseconds(found["ours"]), f"the authors' code: {milliseconds(found['authors'])}"
    return [Row(what, *numbers, ratios(found["authors"], found["ours"]), command)]


def paper_memory(sizes: Sizes, K: int, which: str) -> float:
    """Peak memory of a process that takes two steps at paper size, in megabytes, above that of the imports."""
    before = peak_megabytes()
    with TemporaryDirectory() as folder:
        if which == "ours":
            step = our_paper_step(K, sizes.batch, Path(folder))
        else:
            assert sizes.authors
            step = authors_paper_step(K, sizes.batch, sizes.authors)
        step()
        step()
    return peak_megabytes() - before


def detection(sizes: Sizes) -> list[Row]:
    """`detect` of pictures beside the network alone; the paper's detector beside the authors'."""
    small = AutoLink.from_pretrained("figures")
    pictures = list(figure_images(32, 0, sizes.side)[0])
    ready = torch.rand(32, 3, small.config.size, small.config.size) * 2 - 1
    with torch.inference_mode():
        found = turns({"ours": lambda: small.detect(pictures), "network": lambda: small.keypoints(ready)}, sizes.rounds)
    told = f"the network alone: {milliseconds(found['network'], 32)}"
    over = ratios(found["ours"], found["network"])
    rows = [
        Row(f"detect, figures, {sizes.side} px, a picture", milliseconds(found["ours"], 32), told, over,
            "python -m benchmarks")
    ]  # fmt: skip
    what = "the paper's detector, 16 keypoints, 128 px, a picture"
    if not sizes.authors:
        return [*rows, not_measured(what, "--authors", "python -m benchmarks")]
    paper = PRESETS["paper-k16"].model
    ours = AutoLink(paper).eval()
    theirs = published(sizes.authors)[0].Encoder(SimpleNamespace(n_parts=16, missing=0.8, block=16)).eval()
    images = torch.rand(8, 3, paper.size, paper.size) * 2 - 1
    with torch.inference_mode():
        found = turns({"ours": lambda: ours.keypoints(images), "theirs": lambda: theirs({"img": images})}, sizes.rounds)
    told = f"the authors' code: {milliseconds(found['theirs'], 8)}"
    ratio = ratios(found["theirs"], found["ours"])
    return [*rows, Row(what, milliseconds(found["ours"], 8), told, ratio, "python -m benchmarks --authors CLONE")]


def transfer(sizes: Sizes) -> list[Row]:
    """A whole transfer, file to file, and its stages each by itself."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        frames = list(figure_clip(sizes.frames, 0, sizes.side)[0])
        video = written(folder / "driver.mp4", frames)
        model = PoseTransfer.from_pretrained("figures-transfer")
        small = squares(frames, model.size, "stretch")
        poses = torch.from_numpy(detect_all(model.stage_one, small, torch.device("cpu")))
        source = (torch.from_numpy(small[:1]).permute(0, 3, 1, 2).float() / 127.5 - 1)[:, None]
        nested = PoseTransfer.from_pretrained("faces-transfer")

        def whole(by: PoseTransfer) -> Callable[[], object]:
            # the square as it stands: rendered people are no faces, which takes as long
            return lambda: transfer_video(frames[0], video, by, crop="none", size=sizes.side).write(folder / "out.mp4")

        def translate() -> None:
            for part in poses.split(8):
                model.transfer(source.expand(len(part), -1, -1, -1, -1), part)

        works: dict[str, Callable[[], object]] = {
            "whole": whole(model), "with mouth and eyes": whole(nested),
            "decode": lambda: sum(1 for _ in read_frames(video)),
            "detect": lambda: detect_all(model.stage_one, small, torch.device("cpu")), "translate": translate,
            "encode": lambda: written(folder / "encoded.mp4", frames),
        }  # fmt: skip
        found = turns(works, min(3, sizes.rounds))
    each = sizes.frames
    command = "python -m benchmarks"
    rows = [
        Row(f"transfer, {sizes.side} px, file to file, a frame", milliseconds(found["whole"], each), "",
            f"{spread([each / one for one in found['whole']])} frames a second", command),
        Row("the same with mouth and eyes", milliseconds(found["with mouth and eyes"], each), "",
            f"{spread([each / one for one in found['with mouth and eyes']])} frames a second", command),
    ]  # fmt: skip
    for stage in ("decode", "detect", "translate", "encode"):
        part = [100 * a / b for a, b in zip(found[stage], found["whole"], strict=True)]
        numbers = milliseconds(found[stage], each), f"whole: {milliseconds(found['whole'], each)}"
        rows.append(Row(f"transfer, {stage} by itself", *numbers, f"{spread(part)} %", command))
    return rows


def written(path: Path, frames: list[Any]) -> Path:
    """Frames as a video."""
    with VideoWriter(path, Fraction(25)) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def redrawing(sizes: Sizes) -> list[Row]:
    """One frame, detected and redrawn, beside the First Order Motion Model's published configuration of faces."""
    what, command = "detect and redraw a frame, faces, 256 px", "python -m benchmarks --fomm CLONE"
    if not sizes.fomm:
        return [not_measured(what, "--fomm", "python -m benchmarks")]
    import yaml

    sys.path.insert(0, str(sizes.fomm))
    from modules.generator import OcclusionAwareGenerator
    from modules.keypoint_detector import KPDetector

    options = yaml.safe_load((sizes.fomm / "config" / "vox-256.yaml").read_text())["model_params"]
    detector = KPDetector(**options["kp_detector_params"], **options["common_params"]).eval()
    generator = OcclusionAwareGenerator(**options["generator_params"], **options["common_params"]).eval()
    model = PoseTransfer.from_pretrained("faces-transfer")
    source, driver = torch.rand(2, 1, 3, 256, 256)
    own = model.stage_one.keypoints(source)[:, None]
    small = torch.nn.functional.interpolate(source, (model.size, model.size), mode="bilinear", antialias=True)[:, None]

    def ours() -> None:
        model(small, own, model.stage_one.keypoints(driver)).on(source[:, None])

    with torch.inference_mode():
        known = detector(source)
        works = {"ours": ours, "theirs": lambda: generator(source, kp_source=known, kp_driving=detector(driver))}
        found = turns(works, sizes.rounds)
    told = f"First Order Motion Model: {milliseconds(found['theirs'])}"
    return [Row(what, milliseconds(found["ours"]), told, ratios(found["theirs"], found["ours"]), command)]


def gan(sizes: Sizes) -> list[Row]:
    """A step of the GAN over what its networks take."""
    found = gan_step.measured(64, gan_step.Benchmark(min(3, sizes.rounds), sizes.threads))
    ratio = f"{found['step_over_networks']:.3f} ({found['lowest']:.3f} to {found['highest']:.3f})"
    networks = f"its networks: {found['step'] / found['step_over_networks']:.0f} ms"
    return [
        Row("GAN step, animals preset", f"{found['step']:.0f} ms", networks, ratio, "python benchmarks/gan_step.py")
    ]


def loading(sizes: Sizes) -> list[Row]:
    """Pictures and video beside a decoder that does nothing else."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        frames = list(figure_clip(sizes.frames, 0, sizes.side)[0])
        video = written(folder / "v.mp4", frames)
        pictures = folder / "pictures"
        pictures.mkdir()
        for n, frame in enumerate(frames):
            Image.fromarray(frame).save(pictures / f"{n}.jpg", quality=92)
        paths = sorted(pictures.iterdir())

        def bare_video() -> None:
            with av.open(str(video)) as container:
                for frame in container.decode(video=0):
                    frame.to_ndarray(format="rgb24")

        works: dict[str, Callable[[], object]] = {
            "pictures": lambda: load_data(str(pictures), 64, "stretch"),
            "bare pictures": lambda: [np.asarray(Image.open(path).convert("RGB")) for path in paths],
            "video": lambda: sum(1 for _ in read_frames(video)), "bare video": bare_video,
        }  # fmt: skip
        found = turns(works, sizes.rounds)
    return [
        Row(f"loading {kind} of {sizes.side} px, one", milliseconds(found[kind], sizes.frames),
            f"{decoder} alone: {milliseconds(found[f'bare {kind}'], sizes.frames)}",
            ratios(found[kind], found[f"bare {kind}"]), "python -m benchmarks")
        for kind, decoder in (("pictures", "Pillow"), ("video", "PyAV"))
    ]  # fmt: skip


def extracting(sizes: Sizes) -> list[Row]:
    """Extraction beside its detector, in CPU seconds of one thread."""
    rows = []
    torch.set_num_threads(1)
    for checkpoint in ("figures", "faces"):
        config = extraction.Benchmark(checkpoint, sizes.frames, sizes.side)
        with TemporaryDirectory() as folder:
            works = extraction.works(config, Path(folder))[2]
            found = turns(works, sizes.rounds, time.process_time)
        told = f"its detector alone: {milliseconds(found['detector alone'], sizes.frames)}"
        ratio = ratios(found["extraction"], found["detector alone"])
        numbers = milliseconds(found["extraction"], sizes.frames), told
        command = f"python benchmarks/extraction.py --checkpoint {checkpoint}"
        rows.append(Row(f"extraction, {checkpoint}, a frame of {sizes.side} px", *numbers, ratio, command))
    return rows


ITEMS: dict[str, Callable[[Sizes], list[Row]]] = {
    "edge-map": edge_maps, "step": figures_step, "detection": detection, "transfer": transfer, "redrawing": redrawing,
    "gan": gan, "loading": loading, "extraction": extracting,
}  # fmt: skip
