"""The authors' Lightning checkpoints as checkpoint folders: python -m autolink.convert authors.ckpt DIR."""

import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from autolink.edge_map import edge_pairs
from autolink.errors import UsageError, UserError, command
from autolink.model import AutoLink, ModelConfig
from autolink.pictures import DAMAGE
from autolink.pretrained import check_output_folder

CARD = """---
library_name: autolink
tags: [keypoint-detection, self-supervised]
---
Keypoints and a graph learned without labels: weights of the authors of AutoLink (He, Wandt, Rhodin, NeurIPS 2022),
whose code is under the MIT licence, converted from {name} with `python -m autolink.convert`.
Use with `AutoLink.from_pretrained(FOLDER).detect(images)`.
"""

HELD = ("state_dict", "hyper_parameters")
"""What a Lightning checkpoint must hold."""

NEEDED = ("n_parts", "thick", "sklr", "image_size")
"""What the authors' hyper-parameters must say."""


@dataclass(frozen=True)
class ConvertConfig:
    """Make a checkpoint folder of a Lightning checkpoint of the authors'."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """The authors' model.ckpt."""
    out: Annotated[Path, tyro.conf.Positional]
    """The folder to write."""
    overwrite: bool = False
    """Replace the checkpoint that is in the folder."""


class _LightningCallback:
    """Stands for Lightning's class of that name, which older checkpoints use as a key."""


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and hyper-parameters of a Lightning checkpoint; code in it is refused, never run.

    Raises:
        UserError: the file is missing, damaged, no checkpoint of AutoLink, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise UsageError(f"{path} is no file; give the authors' model.ckpt")
    name = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
    try:
        with torch.serialization.safe_globals([(_LightningCallback, name)]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are no checkpoint
            values = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "global" in line), "")
        raise UserError(
            f"{path} is damaged or holds more than tensors and plain values, and code in a checkpoint is never run; "
            f"save its state_dict and hyper_parameters alone and convert that ({reason.strip() or 'not readable'})"
        ) from None
    except DAMAGE as error:
        raise UserError(f"{path} is damaged ({str(error)[:80] or type(error).__name__}); download it again") from None
    if not isinstance(values, dict) or not all(isinstance(values.get(k), dict) for k in HELD):
        raise UserError(f"{path} is no Lightning checkpoint: it lacks state_dict or hyper_parameters")
    parameters = dict(values["hyper_parameters"])
    missing = [key for key in NEEDED if not isinstance(parameters.get(key), (int, float))]
    if missing:
        raise UserError(f"{path} is no checkpoint of AutoLink: its hyper_parameters lack the number {missing[0]}")
    return {n: v for n, v in values["state_dict"].items() if isinstance(v, Tensor)}, parameters


def authors_config(parameters: dict[str, Any]) -> ModelConfig:
    """The authors' architecture with their hyper-parameters.

    Raises:
        ValueError: a hyper-parameter cannot be.
    """
    return ModelConfig(
        keypoints=int(parameters["n_parts"]), thickness=float(parameters["thick"]), size=int(parameters["image_size"]),
        detector_channels=(64, 128, 256, 512), decoder_channels=(64, 128, 256, 512, 512), sharpness=1.0,
        edge_initial=-4.0, edge_learning_rate_scale=float(parameters["sklr"]),
    )  # fmt: skip


def convert(weights: dict[str, Tensor], config: ModelConfig) -> AutoLink:
    """Our model with the authors' weights; its keypoints are (x, y) where theirs are (row, column).

    Their convolutions have a bias before each normalisation, ours have none: it is taken off the running mean, which is
    the same in evaluation. Their decoder normalises before it halves the resolution, ours after, which is the same,
    too, because both are linear there; training on from the decoder's statistics is not quite the same.

    Raises:
        KeyError: a weight is missing; its argument names it.
        RuntimeError: a weight has another shape than the configuration says.
    """
    found: dict[str, Tensor] = {}
    for ours, theirs, normalised in _layers():
        found[f"{ours}.weight"] = weights[f"{theirs}.weight"]
        if normalised is None:
            found[f"{ours}.bias"] = weights[f"{theirs}.bias"]
            continue
        ours_norm, theirs_norm = normalised
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            found[f"{ours_norm}.{name}"] = weights[f"{theirs_norm}.{name}"]
        found[f"{ours_norm}.running_mean"] = found[f"{ours_norm}.running_mean"] - weights[f"{theirs}.bias"]
    found["decoder.alpha"] = weights["decoder.alpha"]
    first, second = edge_pairs(config.keypoints)
    found["edge_logits"] = weights["decoder.skeleton_scalar"][first, second]
    model = AutoLink(config)
    model.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in found.items()})
    return model.eval()


def _layers() -> Iterator[tuple[str, str, tuple[str, str] | None]]:
    """Our and their name of each convolution, and of the normalisation that follows it, if one does."""

    def pair(ours: str, theirs: str, ours_at: tuple[int, int], theirs_at: tuple[int, int]) -> Any:
        normalised = f"{ours}.{ours_at[1]}", f"{theirs}.{theirs_at[1]}"
        return f"{ours}.{ours_at[0]}", f"{theirs}.{theirs_at[0]}", normalised

    for n in range(4):
        ours, theirs = f"detector.network.{n}", f"encoder.detector.conv.{n}"
        yield pair(f"{ours}.skip", f"{theirs}.conv_res", (0, 1), (0, 2))
        yield pair(f"{ours}.body", f"{theirs}.net", (0, 1), (0, 2))
        yield pair(f"{ours}.body", f"{theirs}.net", (3, 4), (4, 5))
    for n in (4, 5):
        yield pair(f"detector.network.{n}", f"encoder.detector.conv.{n}.net", (1, 2), (1, 2))
    yield "detector.network.6", "encoder.detector.conv.6", None
    yield "decoder.first.0", "decoder.down0.0", None
    for n in range(4):
        for at in ((0, 1), (3, 4)):
            yield pair(f"decoder.down.{n}", f"decoder.down{n + 1}.net", at, at)
        for at in ((1, 2), (4, 5)):
            yield pair(f"decoder.up.{n}", f"decoder.up{n + 1}.net", at, at)
    yield "decoder.last", "decoder.conv", None


def run(config: ConvertConfig) -> None:
    """The command: read, convert, write."""
    check_output_folder(config.out, config.overwrite)
    weights, parameters = read_checkpoint(config.checkpoint)
    try:
        model = convert(weights, authors_config(parameters))
    except KeyError as error:
        raise UserError(f"{config.checkpoint} is no checkpoint of AutoLink: it lacks {error.args[0]}") from None
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{config.checkpoint} does not hold the authors' architecture: {reason}") from None
    model.save_pretrained(config.out, CARD.format(name=config.checkpoint.name))
    chosen = model.config
    print(f"{config.out}: {chosen.keypoints} keypoints, thickness {chosen.thickness:g}, {chosen.size} px")


def main() -> None:
    """Entry point of `python -m autolink.convert`."""
    command(lambda: run(tyro.cli(ConvertConfig)))


if __name__ == "__main__":
    main()
