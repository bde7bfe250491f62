"""What a GAN's training begins with: the weights of another GAN, and of the discriminator that it learned against."""

from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from autolink.errors import UsageError, UserError
from autolink.generation.gan import Gan
from autolink.generation.gan_options import GanTrainConfig
from autolink.generation.generator import Block, Generator
from autolink.generation.structures import principal_directions
from autolink.model import AutoLink
from autolink.pretrained import check_same_shape
from autolink.run_state import RunFolder

OF_CLASSES = {"embedding.weight", "encoder.mean", "encoder.covariance"}
"""What a generator holds one of for each class."""


class Known(NamedTuple):
    """What --start-from names."""

    generator: Generator
    discriminator: dict[str, Tensor]
    """Its tensors by name; none unless a run is named."""
    same_graph: bool
    """Whether it was trained with the stage one of this training."""


def known_gan(config: GanTrainConfig, stage_one: AutoLink) -> Known | None:
    """What --start-from names, if that is given and the run is not a resumed one.

    Raises:
        UserError: it is no checkpoint of a GAN and no run, has other options (larger widths in --channels, and one
            more, are allowed), or cannot give --directions.
    """
    if not config.start_from or config.resume:
        return None
    run = RunFolder(Path(config.start_from))
    discriminator: dict[str, Tensor] = {}
    if run.checkpoints():
        start, tensors = "discriminator.", run.load_checkpoint()[0]
        discriminator = {name.removeprefix(start): v for name, v in tensors.items() if name.startswith(start)}
    known = Gan.from_pretrained(run.path / "model" if discriminator else config.start_from).generator
    has, wanted = known.config, config.model
    free = ("classes", "keypoints", "channels", "encoder")
    check_same_shape(config.start_from, has, wanted, [f.name for f in fields(has) if f.name not in free])
    more = len(wanted.channels) - len(has.channels)
    if more not in (0, 1) or any(a > b for a, b in zip(has.channels, wanted.channels, strict=False)):
        raise UserError(
            f"--start-from {config.start_from} has --channels {' '.join(map(str, has.channels))}: give those or larger "
            f"ones, or one more width for twice the size; here it is {' '.join(map(str, wanted.channels))}"
        )
    ours = same_graph(stage_one, known)
    if config.directions and not (ours and has.classes == wanted.classes):
        raise UsageError(
            f"--directions are those of structures that --start-from {config.start_from} remembers; it has another "
            "stage one or other classes: leave --directions out"
        )
    if config.directions > (most := len(principal_directions(known)[1])):
        raise UsageError(f"--directions {config.directions}: --start-from {config.start_from} knows of {most}")
    return Known(known, discriminator, ours)


@torch.no_grad()
def take_over(generator: Generator, known: Generator) -> None:
    """Give a generator the weights of another, and it draws as the other does, also with larger widths.

    One that is twice the size begins by enlarging the other's pictures. What belongs to classes that the other does not
    have stays as it is.
    """
    of_the_data = {name for name, _ in known.named_buffers(recurse=False)}
    own = generator.state_dict()  # it may have no encoder, or more blocks
    weights = {name: value for name, value in known.state_dict().items() if name in own.keys() - of_the_data}
    for name in OF_CLASSES & weights.keys():
        of_classes = own[name].clone()
        for n, class_name in enumerate(generator.config.classes):
            if class_name in known.config.classes:
                of_classes[n] = weights[name][known.config.classes.index(class_name)]
        weights[name] = of_classes
    weights = {name: within(own[name], value, parts_of(name)) for name, value in weights.items()}
    generator.load_state_dict(weights, strict=False)
    if len(generator.blocks) > len(known.blocks):
        newest = generator.blocks[-1]
        assert isinstance(newest, Block)
        newest.begin_as_identity()


def parts_of(name: str) -> int:
    """How many outputs for each channel a layer of the generator has: gain and bias, of one or both convolutions."""
    return 4 if ".place." in name else 2 if ".style." in name else 1


def within(larger: Tensor, known: Tensor, parts: int) -> Tensor:
    """Weights of more channels that let the known ones do as before: nothing comes to them from the others.

    What the others are is left as it is, for training to find a use for (Net2WiderNet of Chen et al., 2016, but with
    random channels instead of copies). A newest block may have fewer channels than the last one before it: as many of
    those as there are then remain.
    """
    if larger.shape == known.shape:
        return known
    result, inner = (weight.unflatten(0, (parts, -1)) for weight in (larger.clone(), known))
    shared = tuple(slice(min(sides)) for sides in zip(result.shape, inner.shape, strict=True))
    result[:, : inner.shape[1]] = 0
    result[shared] = inner[shared]
    flat: Tensor = result.flatten(0, 1)
    return flat


def same_graph(stage_one: AutoLink, generator: Generator) -> bool:
    """Whether a generator was trained with this stage one."""
    try:
        Gan(stage_one, generator)
    except UserError:
        return False
    return True


def take_over_discriminator(discriminator: nn.Module, known: dict[str, Tensor]) -> int:
    """Give a discriminator the weights of another as far as they fit; how many of its tensors do."""
    own = discriminator.state_dict()
    fitting = {name: value for name, value in known.items() if name in own and own[name].shape == value.shape}
    discriminator.load_state_dict(fitting, strict=False)
    return len(fitting)


def fix_coarse(generator: Generator, scales: int) -> None:
    """Let the coarsest scales stay as they are, with what gives them structure and appearance."""
    read = [generator.embedding, generator.mapping, generator.edge_encoder, generator.encoder]
    for part in (*filter(None, read), *generator.blocks[:scales]):
        part.requires_grad_(False)
    generator.constant.requires_grad_(False)
