"""Train the conditional GAN: accelerate launch generation/train_gan.py [--stage-one DIR --data FOLDER --out DIR]."""

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from autolink.data import check_data, load_data
from autolink.data.images import ImageSet
from autolink.data.shard_pictures import expect
from autolink.device import to_network
from autolink.errors import UserError, command
from autolink.generation import gan_progress
from autolink.generation.adversarial import BETAS, AdversarialTrainer
from autolink.generation.classes import data_classes
from autolink.generation.gan import Gan, draw_structure
from autolink.generation.gan_data import Batch, GanData
from autolink.generation.gan_options import GanTrainConfig, parse_config
from autolink.generation.generator import Block, Generator
from autolink.generation.losses import (
    appearance_loss,
    hinge_generator_loss,
    hinge_loss,
    structure_loss,
    variety_loss,
)
from autolink.generation.projected import (
    Change,
    Discriminator,
    ProjectedFeatures,
    changed,
    changed_images,
    draw_change,
)
from autolink.loop import start
from autolink.model import AutoLink
from autolink.pretrained import check_same_shape

OTHER_STRUCTURES = (
    "note: --start-from {} was trained with another stage one; what the edge map of this one means is learned anew"
)

OF_CLASSES = {"embedding.weight", "encoder.mean", "encoder.product"}
"""What a generator holds one of for each class."""


class Judged(NamedTuple):
    """Generated pictures as the discriminator sees them."""

    features: list[Tensor]
    """Of B pictures, as of `ProjectedFeatures`."""
    edges: Tensor
    """(B, 1, drawn_size, drawn_size)."""
    classes: Tensor
    """(B,)."""


class GanTrainer(AdversarialTrainer[GanTrainConfig, Generator, Discriminator]):
    """Generator and projected discriminator; the frozen stage one says where the keypoints are."""

    betas = BETAS
    discriminator_share = 4.0  # at the generator's own rate it stays a coin toss for thousands of steps

    def __init__(
        self, config: GanTrainConfig, accelerator: Accelerator, stage_one: AutoLink, pictures: ImageSet,
        known: Generator | None = None,
    ) -> None:  # fmt: skip
        torch.manual_seed(config.seed)
        self.stage_one = stage_one.to(accelerator.device).requires_grad_(False).eval()
        accelerator.print(f"finding the keypoints of {len(pictures)} pictures")
        self.skipped = pictures.skipped
        self.data = GanData.find(
            pictures, config.model.classes, self.stage_one, config.flip, accelerator.device, config.relight
        )
        if len(self.data.train_rows) < 2:
            raise UserError(
                f"--data {config.data}: {len(self.data.train_rows)} pictures to train on ({len(pictures)} in all); a "
                "GAN needs at least two, and hundreds to be any good"
            )
        generator = Generator(config.model)
        self.other_structures = known is not None and not same_graph(self.stage_one, known.to(accelerator.device))
        if known:
            take_over(generator, known)
        self.data.remember(generator, self.stage_one, self.data.candidates()[:, 0])
        super().__init__(config, accelerator, generator, Discriminator(config.model, config.feature_size))
        few = torch.from_numpy(self.data.images[self.data.train_rows[:64]])
        self.features = ProjectedFeatures(config.feature_size, to_network(few, torch.device("cpu")))
        self.features.to(accelerator.device)
        self.last: dict[str, Tensor] = {}

    def dice(self, step: int, shard: int) -> tuple[np.random.Generator, torch.Generator]:
        """What draws a batch, and what draws noise and changes."""
        rng = np.random.default_rng((self.config.seed, step, shard))
        return rng, torch.Generator().manual_seed(int(rng.integers(2**62)))

    def draw(self, keypoints: Tensor) -> Tensor:
        """Edge maps as the networks want them."""
        return draw_structure(self.stage_one, keypoints, self.config.model.drawn_size)

    def train_batch(self, shard: int) -> Tensor:
        """Generate two pictures a structure, judge them, and learn to judge from the same two batches."""
        config, device = self.config, self.accelerator.device
        rng, dice = self.dice(self.step, shard)
        real = self.data.batch(config.batch, rng, device)
        expect(self.data.images, self.data.rows(config.batch, self.dice(*self.next_batch(shard))[0]))
        noise = torch.randn(config.batch, config.model.latent, generator=dice).to(device)
        with self.accelerator.autocast():
            edges = self.draw(real.keypoints)
            loss, generated = self.generator_loss(real, edges, noise, dice)
        self.update(loss)
        with self.accelerator.autocast():
            critic_loss = self.discriminator_loss(real, edges, generated, dice)
        self.update_discriminator(critic_loss)
        self.last["discriminator_loss"] = critic_loss.detach()
        return loss.detach()

    def generator_loss(self, real: Batch, edges: Tensor, noise: Tensor, dice: torch.Generator) -> tuple[Tensor, Judged]:
        """To be taken for real, to show the structure, and to differ where the noise does.

        The second half of the pictures have the encoded appearance of the structure's own picture, if there is an
        encoder, and are to look like it.
        """
        config, half = self.config, len(noise) // 2
        keypoints, classes, asked = (torch.cat([x[:half], x[:half]]) for x in (real.keypoints, real.classes, edges))
        own = real.images[:half]
        with torch.no_grad():
            like = self.features(own) if config.model.encoder else None
        images, divergence = self.model(asked, noise, classes, like)
        change = draw_change(len(noise), config.augment, dice)
        seen, seen_edges = changed(images, asked, change)
        features = self.features(seen)
        with self.fixed_discriminator() as discriminator:
            verdicts = discriminator(features, torch.arange(len(noise), device=noise.device), seen_edges, classes)
        loss = self.noted("generator_loss", hinge_generator_loss(verdicts))
        if config.model.conditional and config.structure_weight:
            structure = self.noted("structure_distance", structure_loss(self.stage_one.keypoints(images), keypoints))
            loss = loss + config.structure_weight * structure
        if config.variety_weight:
            variety = variety_loss(images[:half], images[half:], real.images, config.variety)
            loss = loss + config.variety_weight * self.noted("variety_loss", variety)
        if like is not None:
            with torch.no_grad():
                same_change = Change(*(part[half:] for part in change))
                wanted = self.features(changed_images(own, same_change))
            appearance = self.noted("appearance_loss", appearance_loss([f[half:] for f in features], wanted))
            loss = loss + config.appearance_weight * appearance
            loss = loss + config.divergence_weight * self.noted("divergence", divergence)
        return loss, Judged([f.detach() for f in features], seen_edges, classes)

    def discriminator_loss(self, real: Batch, edges: Tensor, generated: Judged, dice: torch.Generator) -> Tensor:
        """To tell real from generated pictures, and real ones from those held against what they do not show."""
        config, B = self.config, len(real.images)
        with torch.no_grad():
            # moved as the picture is, or a wrong structure would be told by its place
            pairs = torch.cat([edges, edges.roll(1, 0)], 1)
            seen, pairs = changed(real.images, pairs, draw_change(B, config.augment, dice))
            real_edges, other_edges = pairs.split(1, 1)
            features = self.features(seen)
        both = [torch.cat(levels) for levels in zip(features, generated.features, strict=True)]
        rows = torch.arange(2 * B, device=edges.device)
        held = [(rows, torch.cat([real_edges, generated.edges]), torch.cat([real.classes, generated.classes]))]
        if config.model.conditional:
            held.append((rows[:B], other_edges, real.classes))
        count = len(config.model.classes)
        if count > 1:
            shift = torch.randint(1, count, (B,), generator=dice).to(edges.device)
            held.append((rows[:B], real_edges, (real.classes + shift) % count))
        verdicts = self.discriminator(both, *(torch.cat(parts) for parts in zip(*held, strict=True)))
        on_real, on_generated, *on_mismatched = verdicts.split(B)
        return hinge_loss(on_real, on_generated, on_mismatched)

    def noted(self, name: str, term: Tensor) -> Tensor:
        """A term of the loss, kept for the log."""
        self.last[name] = term.detach()
        return term

    def scalars(self) -> dict[str, float]:
        """The parts of the last step's loss."""
        return {name: value.item() for name, value in self.last.items()}

    def save_model(self, folder: Path) -> None:
        """Generator and stage one as a checkpoint folder; after the last step it remembers what it draws best."""
        gan = self.shown()
        if self.step == self.config.steps:
            rows = gan_progress.faithful_rows(gan, self.data, self.config.batch)
            self.data.remember(gan.generator, self.stage_one, rows)
        gan.save_pretrained(folder)

    def shown(self) -> Gan:
        """The GAN as it is saved and shown."""
        return Gan(self.stage_one, self.average).eval()

    def measure(self) -> dict[str, float]:
        """As `gan_progress.measure`."""
        return gan_progress.measure(self.shown(), self.data, self.config.batch)

    def sample_picture(self) -> NDArray[np.uint8]:
        """As `gan_progress.sample_picture`."""
        return gan_progress.sample_picture(self.shown(), self.data, self.config.batch)

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`.

        Raises:
            UserError: they are of version 1.0.0 or earlier, whose discriminator was another.
        """
        if not any(name.startswith("discriminator.edge_encoder.") for name in tensors):
            raise UserError(
                "--resume: this run is of an earlier version, whose discriminator was another; begin anew from its "
                "generator: --start-from RUN/model --out NEW"
            )
        super().load_tensors(tensors)

    def data_state(self) -> str:
        """How many pictures there are, of which classes."""
        return f"{len(self.data.images)} pictures of {', '.join(self.config.model.classes)}"

    def describe(self) -> list[str]:
        """Pictures, classes, sizes, device."""
        config = self.config
        counts = np.bincount(self.data.classes, minlength=len(config.model.classes))
        kinds = ", ".join(f"{count} {name}" for name, count in zip(config.model.classes, counts, strict=True))
        sizes = [sum(p.numel() for p in m.parameters()) / 1e6 for m in (self.raw, self.raw_discriminator)]
        return [
            *(f"skipped {name}: {reason}" for name, reason in self.skipped.items()),
            f"{len(self.data.images)} pictures of {config.model.size} px ({kinds}), "
            f"{len(self.data.test_rows)} held out; "
            f"{config.model.keypoints} keypoints, generator of {sizes[0]:.2f} M parameters, discriminator of "
            f"{sizes[1]:.2f} M; "
            f"{self.accelerator.device}, precision {self.accelerator.mixed_precision}",
            *([OTHER_STRUCTURES.format(config.start_from)] if self.other_structures else []),
        ]


def known_generator(config: GanTrainConfig) -> Generator | None:
    """The generator of --start-from, if that is given and the run is not a resumed one.

    Raises:
        UserError: it is no checkpoint of a GAN, or has other options; larger widths in --channels, and one more, are
            allowed.
    """
    if not config.start_from or config.resume:
        return None
    known = Gan.from_pretrained(config.start_from).generator
    has, wanted = known.config, config.model
    free = ("classes", "keypoints", "channels", "encoder")
    check_same_shape(config.start_from, has, wanted, [f.name for f in fields(has) if f.name not in free])
    more = len(wanted.channels) - len(has.channels)
    if more not in (0, 1) or any(a > b for a, b in zip(has.channels, wanted.channels, strict=False)):
        raise UserError(
            f"--start-from {config.start_from} has --channels {' '.join(map(str, has.channels))}: give those or larger "
            f"ones, or one more width for twice the size; here it is {' '.join(map(str, wanted.channels))}"
        )
    return known


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


def with_data(config: GanTrainConfig, stage_one: AutoLink, classes: tuple[str, ...]) -> GanTrainConfig:
    """The configuration for a stage one and the classes of the data."""
    K, encoder = stage_one.config.keypoints, config.appearance_weight > 0
    return replace(config, model=replace(config.model, keypoints=K, classes=classes, encoder=encoder))


def run(arguments: list[str]) -> None:
    """The command: read options, train, say where the result is."""
    config = parse_config(arguments)
    stage_one = AutoLink.from_pretrained(config.stage_one)
    check_data(config.data, config.root)
    config = with_data(config, stage_one, data_classes(config.data, config.root))
    known = known_generator(config)

    def build(accelerator: Accelerator, cache: Path | None) -> GanTrainer:
        with accelerator.main_process_first():
            data = load_data(config.data, config.model.size, stage_one.config.fit, cache, root=config.root)
        return GanTrainer(config, accelerator, stage_one, data, known)

    start(config, "accelerate launch generation/train_gan.py", build)


def main() -> None:
    """Entry point of `accelerate launch generation/train_gan.py`."""
    command(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
