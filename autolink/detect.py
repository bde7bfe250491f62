"""Find keypoints in pictures or a video: autolink detect --input FILE --out DIR [--checkpoint DIR]."""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from autolink.checkpoints import bundled
from autolink.choose import choose_checkpoint
from autolink.data.picture import squares, to_pixels
from autolink.data.source import Source, is_video
from autolink.detected import RESULT, replace_result, write_result
from autolink.device import pick_device
from autolink.draw import draw_graph
from autolink.edge_map import edge_pairs
from autolink.errors import UsageError, UserError, command
from autolink.files import clear_leftovers, temporary_folder
from autolink.inference import detect_all
from autolink.layers import folded
from autolink.model import AutoLink
from autolink.pictures import LARGE, PictureError
from autolink.video.clip import Clip
from autolink.video.files import video_facts
from autolink.video.writer import VideoWriter

BATCH = 32

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class DetectConfig:
    """Find the keypoints and draw the graph on pictures or a video."""

    input: Path
    """A picture, a folder or zip of pictures, or a video."""
    out: Path
    """Folder for keypoints.json and overlays."""
    checkpoint: str = "auto"
    """A checkpoint folder of a stage one, the name of a bundled one, or hf:owner/name; auto takes, of the bundled
    ones, the one that knows the pictures best."""
    overlay: bool = True
    """Draw the graph on every picture or frame, too; --no-overlay writes keypoints.json alone."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace results that are in --out."""


class Finder:
    """A model with what is needed to go from pictures of any size to keypoints in their pixels."""

    def __init__(self, model: AutoLink, device: torch.device) -> None:
        self.model, self.device = folded(model).to(device), device
        self.weights = model.edge_weights.detach().cpu().numpy()

    def find(self, pictures: list[Picture]) -> list[NDArray[np.floating]]:
        """(H, W, 3) RGB each -> (K, 2) each, (x, y) in pixels with (0, 0) at the centre of the first pixel."""
        config = self.model.config
        small = squares(pictures, config.size, config.fit)
        found = detect_all(self.model, small, self.device)
        return [to_pixels(k, p.shape[1], p.shape[0], config.fit) for k, p in zip(found, pictures, strict=True)]

    def each(self, pictures: Iterable[Picture]) -> Iterator[tuple[Picture, NDArray[np.floating]]]:
        """Each picture with its keypoints in its pixels, in order and constant memory."""
        for batch in batches(pictures):
            yield from zip(batch, self.find(batch), strict=True)

    def overlay(self, picture: Picture, keypoints: NDArray[np.floating]) -> Picture:
        """The graph drawn on a picture."""
        return draw_graph(picture, keypoints, self.weights)

    def graph(self) -> list[dict[str, float]]:
        """The edges as JSON: which two keypoints, how strong."""
        pairs = edge_pairs(self.model.config.keypoints).T.tolist()
        return [
            {"from": i, "to": j, "weight": _short(w)} for (i, j), w in zip(pairs, self.weights.tolist(), strict=True)
        ]


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def batches(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """Pictures in lists of `BATCH`, fewer of large ones."""
    batch: list[Picture] = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == BATCH or sum(p.size for p in batch) > LARGE:
            yield batch
            batch = []
    if batch:
        yield batch


def _points(keypoints: NDArray[np.floating]) -> list[list[float]]:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in keypoints]


def detect_pictures(
    finder: Finder, source: Source, out: Path, head: dict[str, Any], overlay: bool
) -> tuple[int, dict[str, str]]:
    """Overlays, if wanted, of a source's pictures and keypoints.json into `out`: how many, and what could not be read.

    Overlays have the pictures' own relative names.
    """
    skipped: dict[str, str] = {}
    waiting: deque[str] = deque()

    def readable() -> Iterator[Picture]:
        for name in tqdm(source.names, unit="picture", disable=len(source.names) < BATCH):
            try:
                picture = np.asarray(source.picture(name))
            except PictureError as error:
                skipped[name] = str(error)
                continue
            waiting.append(name)
            yield picture

    def found() -> Iterator[dict[str, Any]]:
        for picture, keypoints in finder.each(readable()):
            name, (height, width) = waiting.popleft(), picture.shape[:2]
            if overlay:
                _save(finder.overlay(picture, keypoints), out / name)
            yield {"image": name, "width": width, "height": height, "keypoints": _points(keypoints)}

    count = write_result(out / RESULT, head, "images", found(), {"skipped": skipped})
    if not count:
        first, reason = next(iter(skipped.items()))
        raise UserError(f"none of the pictures in {source.path} can be read; {first}: {reason}")
    return count, skipped


def _save(picture: Picture, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    form = Image.registered_extensions().get(target.suffix.lower(), "PNG")
    Image.fromarray(picture).save(target, form if form in Image.SAVE else "PNG", quality=95)


def detect_video(finder: Finder, path: Path, out: Path, head: dict[str, Any], overlay: bool) -> int:
    """The overlay video, if wanted, and keypoints.json into `out`: how many frames."""
    facts = video_facts(path)
    damage: list[str] = []
    frames = tqdm(Clip.of(path).readable_frames(damage), total=facts.frames, unit="frame")
    with VideoWriter(out / f"{path.stem}.mp4", facts.rate) if overlay else nullcontext() as writer:

        def found() -> Iterator[list[list[float]]]:
            for frame, keypoints in finder.each(frames):
                if writer:
                    writer.write(finder.overlay(frame, keypoints))
                yield _points(keypoints)

        about = {"video": path.name, "rate": str(facts.rate), "width": facts.width, "height": facts.height}
        count = write_result(out / RESULT, head | about, "frames", found(), {})
    for sentence in damage:
        print(f"warning: {sentence}", file=sys.stderr)
    return count


def _model(config: DetectConfig, source: Source | Path, device: torch.device) -> tuple[str, AutoLink]:
    """The stage one asked for, and what it is called."""
    if config.checkpoint != "auto":
        return config.checkpoint, AutoLink.from_pretrained(config.checkpoint)
    name, model = choose_checkpoint(source, device)
    print(f"checkpoint {name}: of {', '.join(bundled('autolink'))}, it knows these pictures best")
    return name, model


def run(config: DetectConfig) -> None:
    """The command: find, draw, write, say where."""
    device = pick_device(config.device)
    if not config.input.exists():
        raise UsageError(f"--input {config.input} does not exist")
    if config.out.exists() and not config.out.is_dir():
        raise UsageError(f"--out {config.out} is a file; give a folder")
    out = config.out.resolve()
    clear_leftovers(out)
    if out.is_relative_to(config.input.resolve()):
        raise UsageError(f"--out {config.out} is the input or lies in it; choose another folder")
    if out.exists() and any(out.iterdir()):
        if not (out / RESULT).exists():
            raise UsageError(
                f"--out {config.out} holds files that are no earlier result; choose an empty or new folder"
            )
        if not config.overwrite:
            raise UsageError(f"--out {config.out} holds a result; choose another folder or add --overwrite")
    source = config.input if config.input.is_file() and is_video(config.input) else Source.of(config.input)
    checkpoint, model = _model(config, source, device)
    finder = Finder(model, device)
    there, skipped = out.exists(), dict[str, str]()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with temporary_folder(out / RESULT) as beside:  # inside, for a folder may be a mount point
            head = {"checkpoint": checkpoint, "graph": finder.graph()} | ({} if config.overlay else {"overlays": False})
            if isinstance(source, Path):
                count = detect_video(finder, source, beside, head, config.overlay)
            else:
                count, skipped = detect_pictures(finder, source, beside, head, config.overlay)
            replace_result(beside, out, config.input)
    finally:
        if not there and not any(out.iterdir()):
            out.rmdir()
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}", file=sys.stderr)
    what = "frame" if isinstance(source, Path) else "picture"
    written = "overlays and keypoints.json" if config.overlay else RESULT
    print(f"{count} {what}{'s' * (count != 1)}: {written} in {config.out}")


def main() -> None:
    """Entry point of `autolink detect`."""
    command(lambda: run(tyro.cli(DetectConfig)))


if __name__ == "__main__":
    main()
