"""Video pose transfer: python generation/transfer.py --src video.mp4 --driver pose.mp4 [--out result.mp4]."""

import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from autolink.config import RunConfig
from autolink.detect import pick_device
from autolink.draw import draw_graph, to_image
from autolink.errors import UsageError, UserError, command
from autolink.loop import pick_precision, prepare_cpu, to_network
from autolink.train import detect_all
from generation.finetune import finetuned
from generation.translator import PoseTransfer
from video import files as video
from video.motion import (
    Motion,
    MotionError,
    best_frame,
    carried,
    edge_matrix,
    maximum_spanning_tree,
    pose_distance,
    read_motion,
    relative,
    retarget,
    smooth,
    write_motion,
)
from video.subject import Crop, find_subject, follow, look, parse_crop
from video.writer import WRITTEN, VideoWriter

Image = NDArray[np.uint8]

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"

FAR = 0.5
"""`pose_distance` of source and driver's reference frame from which relative motion is warned of."""

FINETUNED = 200
"""Frames of the source that --finetune learns from at most."""

LARGEST = 512
"""Side of the result in pixels at most, unless another is asked for."""


@dataclass(frozen=True)
class TransferConfig:
    """Redraw the subject of one video or picture in the motion of another."""

    src: Path
    """Whose appearance: a video, a picture or a folder of frames."""
    driver: Path
    """Whose motion: a video, a folder of frames, or the JSON that --keypoints or autolink.detect wrote."""
    out: Path = Path("result.mp4")
    """The video to write, .mp4 or .gif."""
    checkpoint: str = "auto"
    """A checkpoint folder of train_transfer, or owner/name on the Hugging Face Hub; auto takes, of those that come with
    AutoLink, the one that knows the source's kind best."""
    motion: Literal["relative", "absolute", "retarget"] = "relative"
    """Relative: the source's pose moves as the driver's moves away from its reference frame. Absolute: the driver's
    keypoints as they are. Retarget: the source's bone lengths with the driver's bone angles."""
    adapt_scale: bool = True
    """Scale the motion by how large the source is beside the driver."""
    best_frame: str = "auto"
    """The driver's reference frame: the one most like the source's pose (auto), or a number, from 0."""
    smooth: float = 0.0
    """Smooth the motion over so many frames (deviation of a Gaussian); 0 is off."""
    crop: str = "auto"
    """What is redrawn: the square in which the subject lies as in training (auto), the central square (none), or the
    box x,y,w,h of the source in pixels; the driver is then found by itself."""
    paste_back: bool = False
    """Put the redrawn square back into the source's whole picture."""
    audio: Literal["driver", "source", "none"] = "driver"
    """Whose sound the result gets."""
    side_by_side: bool = False
    """Show source, driver and result beside each other."""
    keypoints: Path | None = None
    """Write the driver's keypoints to this JSON, which --driver takes in place of a video."""
    source_frames: int = 1
    """Frames of a source video that are looked at, evenly spread; the first is the one that is redrawn."""
    finetune: int = 0
    """Adapt the translator to the source in so many training steps first."""
    size: int = 0
    """Side of the redrawn square in pixels; 0 is the source's own, 512 at most."""
    batch: int = 8
    """Frames computed together."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace --out and --keypoints where they exist."""
    dry_run: bool = False
    """Look at source and driver, say what would be done, and stop."""

    def __post_init__(self) -> None:
        if self.best_frame != "auto" and not self.best_frame.isdecimal():
            raise UsageError(f"--best-frame is auto or a frame number from 0, got {self.best_frame}")
        if not 0 <= self.smooth < 1000:
            raise UsageError(f"--smooth is a number of frames from 0 to 1000, got {self.smooth}")
        if self.crop not in ("auto", "none"):
            try:
                parse_crop(self.crop)
            except ValueError as error:
                raise UsageError(f"--crop is auto, none or a box: {error}") from None
        if min(self.source_frames, self.batch) < 1 or min(self.finetune, self.size) < 0:
            raise UsageError("--source-frames and --batch must be at least 1, --finetune and --size not negative")
        if self.size == 1 or self.size > 4096:
            raise UsageError(f"--size is 0 or 2 to 4096 pixels, got {self.size}")


class Source(NamedTuple):
    """Who is redrawn."""

    pictures: list[Image]
    """(H, W, 3) each; the first is the one that is redrawn."""
    crop: Crop
    """The square that is redrawn, in pixels of all of them."""
    keypoints: NDArray
    """(S, K, 2), (x, y) in [-1, 1] of the crop."""


class Driver(NamedTuple):
    """What moves."""

    motion: Motion
    """Keypoints in pixels of the driver's frames."""
    crop: Crop
    """Where the subject is in the reference frame: what [-1, 1] means for it."""
    reference: int
    """The frame that stands for the source's pose."""
    damage: str | None = None
    """What could not be read, where something could not."""


@dataclass
class Networks:
    """The checkpoint on its device."""

    model: PoseTransfer
    device: torch.device
    amp: torch.dtype | None = field(init=False)

    def __post_init__(self) -> None:
        precision = pick_precision(RunConfig())
        self.amp = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        self.model.to(self.device).eval()

    @property
    def detector_size(self) -> int:
        """Side of the crops that `detect` wants."""
        return self.model.stage_one.config.size

    def detect(self, crops: Image) -> NDArray:
        """(n, size, size, 3) -> (n, K, 2), (x, y) in [-1, 1]."""
        return detect_all(self.model.stage_one, crops, self.device)

    def tensor(self, pictures: list[Image]) -> torch.Tensor:
        """(S, 3, H, W) in [-1, 1]."""
        return to_network(torch.from_numpy(np.stack(pictures)), self.device)

    @property
    def weights(self) -> NDArray:
        """The graph: (E,)."""
        return self.model.stage_one.edge_weights.detach().cpu().numpy()

    @torch.no_grad()
    def redraw(self, source: Source, poses: NDArray, side: int, batch: int) -> Iterator[Image]:
        """The source's square, `side` pixels, in each pose of (T, K, 2), `batch` of them at a time."""
        small = self.tensor([source.crop.take(p, self.model.size) for p in source.pictures])
        large = self.tensor([source.crop.take(p, side) for p in source.pictures])
        keypoints = torch.from_numpy(source.keypoints).float().to(self.device)
        for driving in torch.from_numpy(poses).float().to(self.device).split(batch):
            B = len(driving)
            with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
                result = self.model(small.expand(B, *small.shape), keypoints.expand(B, *keypoints.shape), driving)
            for n in range(B):
                one = type(result)(*(part[n : n + 1] for part in result))
                yield to_image(one.on(large[None])[0].permute(1, 2, 0).cpu().numpy())


def read_source(config: TransferConfig, networks: Networks) -> Source:
    """The source's pictures, the square to redraw, and the keypoints there.

    Raises:
        VideoError, UserError: it cannot be read, or shows no subject.
    """
    pictures = spread_frames(config.src, config.source_frames)
    height, width = pictures[0].shape[:2]
    if config.crop == "none":
        crop = Crop.centre(width, height)
    elif config.crop == "auto":
        crop = subject_crop(pictures[0], networks, f"--src {config.src}").inside(width, height)
    else:
        crop = parse_crop(config.crop)
        if crop.x >= width or crop.y >= height or crop.x + crop.side <= 0 or crop.y + crop.side <= 0:
            raise UsageError(f"--crop {config.crop} lies outside of the source, which is {width}x{height} pixels")
    found = networks.detect(np.stack([crop.take(p, networks.detector_size) for p in pictures]))
    return Source(pictures, crop, found)


def spread_frames(path: Path, count: int) -> list[Image]:
    """The first frame of a video and `count` - 1 more, evenly spread as far as its length is known."""
    with closing(video.read_frames(path)) as frames:
        pictures = [next(frames)]
        if count > 1:
            length = video.video_facts(path).frames or count
            wanted = set(np.linspace(0, length - 1, count).round().astype(int)[1:].tolist())
            pictures += [frame for n, frame in enumerate(frames, 1) if n in wanted]
    return pictures


def choose_checkpoint(config: TransferConfig, device: torch.device) -> tuple[str, Networks]:
    """The checkpoint asked for, or the bundled one that doubts least that the source is of its kind; and its name.

    Raises:
        VideoError, UserError: the source or the checkpoint cannot be read.
    """
    if config.checkpoint != "auto":
        return config.checkpoint, Networks(PoseTransfer.from_pretrained(config.checkpoint), device)
    picture = spread_frames(config.src, 1)[0]
    if config.crop not in ("auto", "none"):
        crop = parse_crop(config.crop)
        picture = crop.take(picture, min(LARGEST, max(2, round(crop.side))))
    bundled = {folder.name: PoseTransfer.from_pretrained(folder) for folder in sorted(CHECKPOINTS.glob("*-transfer"))}
    known = {name: Networks(model, device) for name, model in bundled.items()}

    def doubt(name: str) -> float:
        networks = known[name]
        return look(picture, networks.detect, networks.model.layout, networks.detector_size).doubt

    best = min(known, key=doubt)
    return best, known[best]


def subject_crop(image: Image, networks: Networks, name: str) -> Crop:
    """The square in which the subject lies as in training.

    Raises:
        UserError: there is no subject that the detector knows.
    """
    subject = find_subject(image, networks.detect, networks.model.layout, networks.detector_size)
    if not subject.settled:
        raise UserError(
            f"{name}: no subject of the kind that this checkpoint knows was found in the first frame; choose the "
            "square with --crop x,y,w,h, or take the central one with --crop none"
        )
    return subject.crop


def read_driver(config: TransferConfig, networks: Networks, source: Source) -> Driver:
    """The driver's keypoints in all frames, and its crop in the reference frame.

    Raises:
        VideoError, UserError: it cannot be read, or fits neither checkpoint nor options.
    """
    layout = networks.model.layout
    K = networks.model.translator.config.keypoints
    if config.driver.suffix.lower() == ".json":
        motion = read_motion(config.driver)
        if motion.keypoints.shape[1] != K:
            raise UserError(
                f"--driver {config.driver} has {motion.keypoints.shape[1]} keypoints, the checkpoint {K}; give a "
                "motion that was written with the same stage one"
            )
        damage = None
    else:
        motion, damage = follow_driver(config, networks)
    chosen = list(layout.chosen)
    reference = reference_frame(config, source.keypoints[0][chosen], motion.keypoints[:, chosen])
    if config.crop == "none":
        crop = Crop.centre(motion.width, motion.height)
    else:
        crop = layout.crop(*layout.where(motion.keypoints[reference]))
    return Driver(motion, crop, reference, damage)


def follow_driver(config: TransferConfig, networks: Networks) -> tuple[Motion, str | None]:
    """Keypoints in every frame of the driving video, and what was damaged."""
    facts = video.video_facts(config.driver)
    damage: list[str] = []
    with closing(whole_frames(config.driver, damage)) as frames:
        first = next(frames)
        height, width = first.shape[:2]
        still = config.crop == "none"
        start = Crop.centre(width, height) if still else subject_crop(first, networks, f"--driver {config.driver}")
        followed = follow(
            chain([first], tqdm(frames, total=facts.frames, unit="frame", desc="driver", initial=1)),
            networks.detect, None if still else networks.model.layout, start, networks.detector_size,
        )  # fmt: skip
        track = np.stack([frame.keypoints for frame in followed])
    return Motion(track, facts.rate, width, height, networks.weights), damage[0] if damage else None


def whole_frames(path: Path, damage: list[str]) -> Generator[Image, None, None]:
    """The frames that can be read; what could not is told in `damage` once some could."""
    count = 0
    try:
        for frame in video.read_frames(path):
            count += 1
            yield frame
    except video.VideoError as error:
        if not count:
            raise
        damage.append(str(error))


def reference_frame(config: TransferConfig, source: NDArray, track: NDArray) -> int:
    """The driver's frame, of (T, n, 2), that stands for the source's pose (n, 2)."""
    if config.best_frame == "auto":
        return best_frame(source, track)
    n = int(config.best_frame)
    if n >= len(track):
        raise UsageError(f"--best-frame {n}: the driver has {len(track)} frames, from 0")
    return n


def driving_poses(config: TransferConfig, networks: Networks, source: Source, driver: Driver) -> NDArray:
    """The poses to redraw the source in: (T, K, 2), (x, y) in [-1, 1] of the source's crop.

    Keypoints that do not count jump about; they are carried along by the others.
    """
    track = driver.crop.from_pixels(smooth(driver.motion.keypoints, config.smooth))
    if config.motion == "absolute":
        return track
    own = source.keypoints[0].astype(np.float64)
    chosen = list(networks.model.layout.chosen)
    start, followed = own[chosen], track[:, chosen]
    if config.motion == "relative":
        moved = relative(start, followed, driver.reference, config.adapt_scale)
    else:
        linked = edge_matrix(networks.weights, len(own))[np.ix_(chosen, chosen)]
        tree = maximum_spanning_tree(linked[np.triu_indices(len(chosen), 1)], len(chosen))
        moved = retarget(start, followed, tree, driver.reference, config.adapt_scale)
    return carried(own, moved, chosen)


def write_result(
    config: TransferConfig, networks: Networks, source: Source, driver: Driver, poses: NDArray, side: int
) -> None:
    """Redraw and write frame by frame."""
    sound = {"driver": config.driver, "source": config.src, "none": None}[config.audio]
    if sound is not None and sound.suffix.lower() == ".json":
        sound = None
    picture = source.pictures[0]
    shown = picture if config.paste_back else source.crop.take(picture, side)
    beside = driver_frames(config, driver) if config.side_by_side else None
    bar = tqdm(total=len(poses), unit="frame", desc="redrawing")
    with VideoWriter(config.out, driver.motion.rate, sound) as writer:
        for patch in networks.redraw(source, poses, side, config.batch):
            image = source.crop.paste(picture, patch) if config.paste_back else patch
            if beside is not None:
                image = np.concatenate([shown, _as_high(next(beside), image), image], 1)
            writer.write(image)
            bar.update()
    bar.close()


def driver_frames(config: TransferConfig, driver: Driver) -> Iterator[Image]:
    """The driver's frames once more, or its skeleton where there is only a motion."""
    motion = driver.motion
    if config.driver.suffix.lower() != ".json":
        yield from whole_frames(config.driver, [])
        return
    K = motion.keypoints.shape[1]
    weights = np.ones(K * (K - 1) // 2) if motion.weights is None else motion.weights
    for keypoints in motion.keypoints:
        yield draw_graph(np.zeros((motion.height, motion.width, 3), np.uint8), keypoints, weights)


def _as_high(image: Image, like: Image) -> Image:
    """An image resized to another's height, its aspect ratio kept."""
    height = like.shape[0]
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    shrinking = height < image.shape[0]
    return np.asarray(
        cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC), np.uint8
    )


def check_files(config: TransferConfig) -> None:
    """Refuse what cannot work before anything is computed."""
    for option, path in (("--src", config.src), ("--driver", config.driver)):
        if not path.exists():
            raise UsageError(f"{option} {path} does not exist")
    for option, out in (("--out", config.out), ("--keypoints", config.keypoints)):
        if out is None:
            continue
        if any(out.exists() and out.samefile(path) for path in (config.src, config.driver)):
            raise UsageError(f"{option} {out} is an input as well; choose another name")
        if out.is_dir():
            raise UsageError(f"{option} {out} is a folder; give a file name")
        if not out.absolute().parent.is_dir():
            raise UsageError(f"{option} {out}: there is no folder {out.parent}; create it first")
        if out.exists() and not config.overwrite:
            raise UsageError(f"{option} {out} exists; choose another name or add --overwrite")
    if config.out.suffix.lower() not in WRITTEN:
        raise UsageError(f"--out {config.out}: give a name that ends in {' or '.join(WRITTEN)}")
    if config.keypoints and config.keypoints.suffix.lower() != ".json":
        raise UsageError(f"--keypoints {config.keypoints}: give a name that ends in .json")


def run(config: TransferConfig) -> None:
    """The command: find both subjects, move one as the other, write, say what was done."""
    check_files(config)
    device = pick_device(config.device)
    prepare_cpu(device)
    name, networks = choose_checkpoint(config, device)
    source = read_source(config, networks)
    driver = read_driver(config, networks, source)
    track = driver.motion.keypoints
    reference = driver.reference
    chosen = list(networks.model.layout.chosen)
    apart = float(pose_distance(source.keypoints[0][chosen], track[reference, chosen]))
    side = config.size or min(LARGEST, max(2, round(source.crop.side)))
    if driver.damage:
        print(f"warning: {driver.damage}; the {len(track)} frames that could be read are used", file=sys.stderr)
    if apart > FAR and config.motion == "relative":
        print(
            f"warning: the driver's frame {reference}, where its motion starts from, is far from the source's pose: "
            f"{apart:.2f} where {FAR} is close enough; expect distortions, or try --motion absolute or retarget",
            file=sys.stderr,
        )
    print(
        f"{len(track)} frames at {driver.motion.rate} a second, {config.motion} motion from the driver's frame "
        f"{reference} (distance to the source's pose {apart:.2f}), square of {side} px around "
        f"({source.crop.x + source.crop.side / 2:.0f}, {source.crop.y + source.crop.side / 2:.0f}) of the source; "
        f"checkpoint {name}"
    )
    if config.dry_run:
        print("nothing was written")
        return
    if config.finetune:
        pictures = np.stack([source.crop.take(p, networks.model.size) for p in spread_frames(config.src, FINETUNED)])
        networks.model.translator = finetuned(networks.model, pictures, config.finetune, device)
    poses = driving_poses(config, networks, source, driver)
    write_result(config, networks, source, driver, poses, side)
    if config.keypoints:
        write_motion(config.keypoints, driver.motion, {"checkpoint": name, "video": config.driver.name})
    print(f"result: {config.out}")


def main() -> None:
    """Entry point of `python generation/transfer.py`."""

    def transfer() -> None:
        try:
            run(tyro.cli(TransferConfig))
        except (video.VideoError, MotionError) as error:
            raise UserError(str(error)) from None

    command(transfer)


if __name__ == "__main__":
    main()
