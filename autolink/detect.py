"""Find keypoints in pictures or a video: python -m autolink.detect --checkpoint DIR --input FILE --out DIR."""

import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from autolink.data.images import SUFFIXES, Source, read_picture, square, to_pixels, write_text
from autolink.draw import draw_graph
from autolink.edge_map import edge_pairs
from autolink.errors import UsageError, UserError, command
from autolink.model import AutoLink
from autolink.train import detect_all
from video import files as video

BATCH = 32


@dataclass(frozen=True)
class DetectConfig:
    """Find the keypoints and draw the graph on pictures or a video."""

    checkpoint: str
    """A checkpoint folder, or owner/name on the Hugging Face Hub."""
    input: Path
    """A picture, a folder or zip of pictures, or a video."""
    out: Path
    """Folder for overlays and keypoints.json."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace results that are in --out."""


def pick_device(name: str) -> torch.device:
    """The device of a `--device` option.

    Raises:
        UsageError: cuda was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no usable graphics card here; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


class Finder:
    """A model with what is needed to go from pictures of any size to keypoints in their pixels."""

    def __init__(self, model: AutoLink, device: torch.device) -> None:
        self.model, self.device = model.to(device).eval(), device
        self.weights = model.edge_weights.detach().cpu().numpy()

    def find(self, pictures: list[NDArray[np.uint8]]) -> list[NDArray]:
        """(H, W, 3) RGB each -> (K, 2) each, (x, y) in pixels with (0, 0) at the centre of the first pixel."""
        config = self.model.config
        small = np.stack([square(Image.fromarray(picture), config.size, config.fit) for picture in pictures])
        found = detect_all(self.model, small, self.device)
        return [to_pixels(k, p.shape[1], p.shape[0], config.fit) for k, p in zip(found, pictures, strict=True)]

    def overlays(self, pictures: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[NDArray[np.uint8], NDArray]]:
        """Each picture with its graph drawn on it, and its keypoints, in order and constant memory."""
        for batch in _batches(pictures):
            for picture, keypoints in zip(batch, self.find(batch), strict=True):
                yield draw_graph(picture, keypoints, self.weights), keypoints

    def graph(self) -> list[dict[str, float]]:
        """The edges as JSON: which two keypoints, how strong."""
        pairs = edge_pairs(self.model.config.keypoints).T.tolist()
        return [
            {"from": i, "to": j, "weight": _short(w)} for (i, j), w in zip(pairs, self.weights.tolist(), strict=True)
        ]


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _batches(pictures: Iterable[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
    batch: list[NDArray[np.uint8]] = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _points(keypoints: NDArray) -> list[list[float]]:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in keypoints]


def detect_pictures(finder: Finder, source: Source, out: Path) -> dict:
    """Overlays of all pictures of a source into `out`, under their own relative names; the JSON content."""
    images: list[dict] = []
    skipped: dict[str, str] = {}
    sizes: list[tuple[int, int]] = []
    names: list[str] = []

    def readable() -> Iterator[NDArray[np.uint8]]:
        for name in tqdm(source.names, unit="picture", disable=len(source.names) < BATCH):
            picture = read_picture(source.read(name))
            if isinstance(picture, str):
                skipped[name] = picture
                continue
            names.append(name)
            sizes.append((picture.width, picture.height))
            yield np.asarray(picture)

    for n, (overlay, keypoints) in enumerate(finder.overlays(readable())):
        target = out / names[n]
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(overlay).save(target, quality=95)
        width, height = sizes[n]
        images.append({"image": names[n], "width": width, "height": height, "keypoints": _points(keypoints)})
    if not images:
        first, reason = next(iter(skipped.items()))
        raise UserError(f"none of the pictures in {source.path} can be read; {first}: {reason}")
    return {"images": images, "skipped": skipped}


def detect_video(finder: Finder, path: Path, out: Path) -> dict:
    """The overlay video into `out`; the JSON content."""
    frames: list[list[list[float]]] = []
    size = (0, 0)
    damage = None
    facts = video.video_facts(path)

    def readable() -> Iterator[NDArray[np.uint8]]:
        nonlocal damage
        try:
            yield from tqdm(video.read_frames(path), total=facts.frames, unit="frame")
        except video.VideoError as error:
            damage = str(error)

    with video.VideoWriter(out / f"{path.stem}.mp4", facts.rate) as writer:
        for overlay, keypoints in finder.overlays(readable()):
            writer.write(overlay)
            frames.append(_points(keypoints))
            size = (overlay.shape[1], overlay.shape[0])
    if not frames:
        raise UserError(damage or f"{path} has no frames")
    if damage:
        print(f"warning: {damage}", file=sys.stderr)
    return {"video": path.name, "rate": str(facts.rate), "width": size[0], "height": size[1], "frames": frames}


def run(config: DetectConfig) -> None:
    """The command: find, draw, write, say where."""
    device = pick_device(config.device)
    if not config.input.exists():
        raise UsageError(f"--input {config.input} does not exist")
    if config.out.exists() and not config.out.is_dir():
        raise UsageError(f"--out {config.out} is a file; give a folder")
    if config.out.exists() and any(config.out.iterdir()) and not config.overwrite:
        raise UsageError(f"--out {config.out} is not empty; choose another folder or add --overwrite")
    if config.out.resolve() == config.input.resolve():
        raise UsageError("--out must be another folder than --input")
    finder = Finder(AutoLink.from_pretrained(config.checkpoint), device)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    beside = config.out.with_name(f".{config.out.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        if config.input.suffix.lower() in video.SUFFIXES:
            found = detect_video(finder, config.input, beside)
        elif config.input.is_file() and config.input.suffix.lower() in SUFFIXES:
            found = detect_pictures(finder, Source.single(config.input), beside)
        else:
            found = detect_pictures(finder, Source.find(config.input), beside)
        result = {"checkpoint": config.checkpoint, "graph": finder.graph(), **found}
        write_text(beside / "keypoints.json", json.dumps(result, indent=1) + "\n")
        shutil.rmtree(config.out, ignore_errors=True)
        beside.rename(config.out)
    except video.VideoError as error:
        raise UserError(str(error)) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for name, reason in found.get("skipped", {}).items():
        print(f"skipped {name}: {reason}", file=sys.stderr)
    count = len(found.get("images") or found.get("frames") or [])
    print(f"{count} {'frames' if 'frames' in found else 'pictures'}: overlays and keypoints.json in {config.out}")


def main() -> None:
    """Entry point of `python -m autolink.detect`."""
    command(lambda: run(tyro.cli(DetectConfig)))


if __name__ == "__main__":
    main()
