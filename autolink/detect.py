"""Find keypoints in pictures or a video: autolink detect --input FILE --out DIR [--checkpoint DIR]."""

import json
import sys
from collections.abc import Iterable, Iterator
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
from autolink.device import pick_device
from autolink.draw import draw_graph
from autolink.edge_map import edge_pairs
from autolink.errors import UsageError, UserError, command
from autolink.files import clear_leftovers, parse_json, temporary_folder, write_text
from autolink.inference import detect_all
from autolink.layers import folded
from autolink.model import AutoLink
from autolink.pictures import DAMAGE, LARGE, PictureError
from autolink.video.container import VideoError
from autolink.video.files import read_frames, video_facts
from autolink.video.writer import VideoWriter

BATCH = 32

RESULT = "keypoints.json"


@dataclass(frozen=True)
class DetectConfig:
    """Find the keypoints and draw the graph on pictures or a video."""

    input: Path
    """A picture, a folder or zip of pictures, or a video."""
    out: Path
    """Folder for overlays and keypoints.json."""
    checkpoint: str = "auto"
    """A checkpoint folder of a stage one, the name of a bundled one, or hf:owner/name; auto takes, of the bundled
    ones, the one that knows the pictures best."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace results that are in --out."""


class Finder:
    """A model with what is needed to go from pictures of any size to keypoints in their pixels."""

    def __init__(self, model: AutoLink, device: torch.device) -> None:
        self.model, self.device = folded(model).to(device), device
        self.weights = model.edge_weights.detach().cpu().numpy()

    def find(self, pictures: list[NDArray[np.uint8]]) -> list[NDArray[np.floating]]:
        """(H, W, 3) RGB each -> (K, 2) each, (x, y) in pixels with (0, 0) at the centre of the first pixel."""
        config = self.model.config
        small = squares(pictures, config.size, config.fit)
        found = detect_all(self.model, small, self.device)
        return [to_pixels(k, p.shape[1], p.shape[0], config.fit) for k, p in zip(found, pictures, strict=True)]

    def overlays(
        self, pictures: Iterable[NDArray[np.uint8]]
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.floating]]]:
        """Each picture with its graph drawn on it, and its keypoints, in order and constant memory."""
        for batch in batches(pictures):
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


def batches(pictures: Iterable[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
    """Pictures in lists of `BATCH`, fewer of large ones."""
    batch: list[NDArray[np.uint8]] = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == BATCH or sum(p.size for p in batch) > LARGE:
            yield batch
            batch = []
    if batch:
        yield batch


def _points(keypoints: NDArray[np.floating]) -> list[list[float]]:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in keypoints]


def detect_pictures(finder: Finder, source: Source, out: Path) -> dict[str, Any]:
    """Overlays of all pictures of a source into `out`, under their own relative names; the JSON content."""
    images: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    sizes: list[tuple[int, int]] = []
    names: list[str] = []

    def readable() -> Iterator[NDArray[np.uint8]]:
        for name in tqdm(source.names, unit="picture", disable=len(source.names) < BATCH):
            try:
                picture = source.picture(name)
            except PictureError as error:
                skipped[name] = str(error)
                continue
            names.append(name)
            sizes.append((picture.width, picture.height))
            yield np.asarray(picture)

    for n, (overlay, keypoints) in enumerate(finder.overlays(readable())):
        target = out / names[n]
        target.parent.mkdir(parents=True, exist_ok=True)
        form = Image.registered_extensions().get(target.suffix.lower(), "PNG")
        Image.fromarray(overlay).save(target, form if form in Image.SAVE else "PNG", quality=95)
        width, height = sizes[n]
        images.append({"image": names[n], "width": width, "height": height, "keypoints": _points(keypoints)})
    if not images:
        first, reason = next(iter(skipped.items()))
        raise UserError(f"none of the pictures in {source.path} can be read; {first}: {reason}")
    return {"images": images, "skipped": skipped}


def detect_video(finder: Finder, path: Path, out: Path) -> dict[str, Any]:
    """The overlay video into `out`; the JSON content."""
    frames: list[list[list[float]]] = []
    size = (0, 0)
    damage = None
    facts = video_facts(path)

    def readable() -> Iterator[NDArray[np.uint8]]:
        nonlocal damage
        try:
            yield from tqdm(read_frames(path), total=facts.frames, unit="frame")
        except VideoError as error:
            damage = str(error)

    with VideoWriter(out / f"{path.stem}.mp4", facts.rate) as writer:
        for overlay, keypoints in finder.overlays(readable()):
            writer.write(overlay)
            frames.append(_points(keypoints))
            size = (overlay.shape[1], overlay.shape[0])
    if not frames:
        raise UserError(damage or f"{path} has no frames")
    if damage:
        print(f"warning: {damage}", file=sys.stderr)
    return {"video": path.name, "rate": str(facts.rate), "width": size[0], "height": size[1], "frames": frames}


def replace_result(new: Path, out: Path, source: Path) -> None:
    """Move a finished result to where it belongs; of what is there, only an earlier result's own files go.

    keypoints.json comes first: it says which files are ours, whenever the process is killed.

    Raises:
        UsageError: an overlay would replace the input.
    """
    files = [file.relative_to(new) for file in new.rglob("*") if file.is_file()]
    files.sort(key=lambda name: name != Path(RESULT))
    for name in files:
        if (out / name).exists() and (out / name).samefile(source):
            raise UsageError(f"--out {out}: the overlay {name} would replace the input; choose another folder")
    for earlier in _earlier_files(out / RESULT):
        old = out / earlier
        if old.is_file() and old.resolve().is_relative_to(out) and not old.samefile(source):
            old.unlink()
            for folder in old.relative_to(out).parents:
                if folder.name and not any((out / folder).iterdir()):
                    (out / folder).rmdir()
    for name in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(out / name)


def _earlier_files(result: Path) -> list[str]:
    """The overlays that an earlier result names."""
    try:
        content = parse_json(result.read_text())
        if "video" in content:
            return [f"{Path(content['video']).stem}.mp4"]
        return [image["image"] for image in content.get("images", [])]
    except DAMAGE:
        return []


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
    there = out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with temporary_folder(out / RESULT) as beside:  # inside, for a folder may be a mount point
            if isinstance(source, Path):
                found = detect_video(finder, source, beside)
            else:
                found = detect_pictures(finder, source, beside)
            result = {"checkpoint": checkpoint, "graph": finder.graph(), **found}
            write_text(beside / RESULT, json.dumps(result, indent=1) + "\n")
            replace_result(beside, out, config.input)
    finally:
        if not there and not any(out.iterdir()):
            out.rmdir()
    for name, reason in found.get("skipped", {}).items():
        print(f"skipped {name}: {reason}", file=sys.stderr)
    count = len(found.get("images") or found.get("frames") or [])
    what = "frame" if "frames" in found else "picture"
    print(f"{count} {what}{'s' * (count != 1)}: overlays and keypoints.json in {config.out}")


def main() -> None:
    """Entry point of `autolink detect`."""
    command(lambda: run(tyro.cli(DetectConfig)))


if __name__ == "__main__":
    main()
