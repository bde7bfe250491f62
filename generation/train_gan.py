"""Train the conditional GAN: accelerate launch generation/train_gan.py [--stage-one DIR --data FOLDER --out DIR]."""

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from autolink.generation.adversarial import BETAS, AdversarialTrainer
from autolink.generation.classes import classes_of, data_classes, kept_for_testing
from autolink.generation.gan import REMEMBERED, Gan, Generator, draw_structure
from autolink.generation.gan_options import GanTrainConfig, parse_config
from autolink.generation.projected import (
    Discriminator,
    ProjectedFeatures,
    changed,
    difference,
    discriminator_loss,
    draw_change,
)
from numpy.typing import NDArray
from torch import Tensor

from autolink import draw
from autolink.data import ImageSet, check_data, load_data
from autolink.device import to_network
from autolink.errors import UserError, command
from autolink.loop import start
from autolink.model import AutoLink
from autolink.pretrained import check_same_shape
from autolink.train import detect_all

MEASURED = 200
"""Pictures generated for the figures while training."""

ROWS, COLUMNS = 5, 7
"""Structures and appearances in the sample picture."""


class Batch(NamedTuple):
    """The real pictures of a step."""

    images: Tensor
    """(B, 3, size, size) in [-1, 1]."""
    keypoints: Tensor
    """(B, K, 2), (x, y) in [-1, 1]."""
    classes: Tensor
    """(B,)."""


class GanTrainer(AdversarialTrainer[Generator, Discriminator]):
    """Generator and projected discriminator; the frozen stage one says where the keypoints are."""

    betas = BETAS

    def __init__(
        self, config: GanTrainConfig, accelerator: Accelerator, stage_one: AutoLink, data: ImageSet,
        known: Generator | None = None,
    ) -> None:  # fmt: skip
        torch.manual_seed(config.seed)
        self.stage_one = stage_one.to(accelerator.device).requires_grad_(False).eval()
        self.data = data
        self.classes = classes_of(data.names, config.model.classes)
        test = kept_for_testing(data)
        self.train_rows, self.test_rows = np.flatnonzero(~test), np.flatnonzero(test)
        if len(self.train_rows) < 2:
            raise UserError(
                f"--data {config.data}: {len(self.train_rows)} pictures to train on ({len(data)} in all); a GAN needs "
                "at least two, and hundreds to be any good"
            )
        sides = [data.images, data.images[:, :, ::-1]] if config.flip else [data.images]
        accelerator.print(f"finding the keypoints of {len(data)} pictures")
        found = [detect_all(self.stage_one, side, accelerator.device) for side in sides]
        self.keypoints = torch.from_numpy(np.stack(found))  # (1 or 2, N, K, 2), of the pictures and their mirrors
        generator = Generator(config.model)
        if known:
            take_over(generator, known)
        super().__init__(config, accelerator, self.remember(generator), Discriminator(config.model))
        self.config: GanTrainConfig = config
        few = torch.from_numpy(data.images[self.train_rows[:64]])
        self.features = ProjectedFeatures(config.feature_size, to_network(few, torch.device("cpu")))
        self.features.to(accelerator.device)
        self.last: dict[str, Tensor] = {}

    def remember(self, generator: Generator) -> Generator:
        """Keep the graph and some structures in the generator."""
        rows = self.train_rows[np.linspace(0, len(self.train_rows) - 1, REMEMBERED).astype(int)]
        generator.graph.copy_(self.stage_one.edge_weights.detach())
        generator.structures.copy_(self.keypoints[0, rows])
        generator.structure_classes.copy_(torch.from_numpy(self.classes[rows]))
        return generator

    def draw_batch(self, rng: np.random.Generator) -> Batch:
        """Random pictures, half of them mirrored."""
        rows = rng.choice(self.train_rows, self.config.batch)
        images = self.data.images[rows]
        mirrored = rng.integers(len(self.keypoints), size=len(rows))
        images[mirrored == 1] = images[mirrored == 1, :, ::-1]
        device = self.accelerator.device
        classes = torch.from_numpy(self.classes[rows])
        return Batch(
            to_network(torch.from_numpy(images), device), self.keypoints[mirrored, rows].to(device), classes.to(device)
        )

    def draw(self, keypoints: Tensor) -> Tensor:
        """Edge maps as the networks want them."""
        return draw_structure(self.stage_one, keypoints, self.config.model.drawn_size)

    def train_step(self) -> Tensor:
        """Generate two pictures a structure, judge them, and learn to judge from the same two batches."""
        config, device = self.config, self.accelerator.device
        rng = np.random.default_rng((config.seed, self.step, self.accelerator.process_index))
        dice = torch.Generator().manual_seed(int(rng.integers(2**62)))
        real = self.draw_batch(rng)
        half, B = config.batch // 2, config.batch
        noise = torch.randn(B, config.model.latent, generator=dice).to(device)
        keypoints, classes = (torch.cat([x[:half], x[:half]]) for x in (real.keypoints, real.classes))
        with self.accelerator.autocast():
            edges = self.draw(real.keypoints)
            asked = torch.cat([edges[:half], edges[:half]])
            images = self.model(asked, noise, classes)
            seen, seen_edges = changed(images, asked, draw_change(B, config.augment, dice))
            features = self.features(seen)
            self.raw_discriminator.requires_grad_(False)
            rows = torch.arange(B, device=device)
            loss = adversarial = -self.raw_discriminator(features, rows, seen_edges, classes).mean()
            self.raw_discriminator.requires_grad_(True)
            if config.model.conditional and config.structure_weight:
                structure = (self.stage_one.keypoints(images) - keypoints).norm(dim=2).mean()
                loss = loss + config.structure_weight * structure
                self.last["structure_distance"] = structure.detach()
            if config.variety_weight:
                wanted = config.variety * difference(real.images, real.images.roll(1, 0))
                variety = F.relu(1 - difference(images[:half], images[half:]) / wanted.clamp(min=1e-3))
                loss = loss + config.variety_weight * variety
                self.last["variety_loss"] = variety.detach()
        self.update(loss)
        self.update_discriminator(real, edges, dice, [f.detach() for f in features], seen_edges, classes)
        self.last["generator_loss"] = adversarial.detach()
        return loss.detach()

    def update_discriminator(
        self, real: Batch, edges: Tensor, dice: torch.Generator, fake: list[Tensor], fake_edges: Tensor, classes: Tensor
    ) -> None:
        """One step of the discriminator, on generated pictures' features as they were for the generator."""
        config, accelerator = self.config, self.accelerator
        with accelerator.autocast():
            with torch.no_grad():
                seen, real_edges = changed(real.images, edges, draw_change(config.batch, config.augment, dice))
                features = self.features(seen)
            both = [torch.cat(levels) for levels in zip(features, fake, strict=True)]
            rows = torch.arange(2 * config.batch, device=accelerator.device)
            verdicts = [(rows, torch.cat([real_edges, fake_edges]), torch.cat([real.classes, classes]))]
            if config.model.conditional:
                verdicts.append((rows[: config.batch], real_edges.roll(1, 0), real.classes))
            count = len(config.model.classes)
            if count > 1:
                shift = torch.randint(1, count, (config.batch,), generator=dice).to(accelerator.device)
                verdicts.append((rows[: config.batch], real_edges, (real.classes + shift) % count))
            logits = self.discriminator(both, *(torch.cat(parts) for parts in zip(*verdicts, strict=True)))
            on_real, on_fake, *on_mismatched = logits.split(config.batch)
            loss = discriminator_loss(on_real, on_fake, on_mismatched)
        self.step_discriminator(loss)
        self.last["discriminator_loss"] = loss.detach()

    def scalars(self) -> dict[str, float]:
        """The parts of the last step's loss."""
        return {name: value.item() for name, value in self.last.items()}

    def save_model(self, folder: Path) -> None:
        """Generator and stage one as a checkpoint folder."""
        Gan(self.stage_one, self.average).save_pretrained(folder)

    @property
    def shown_rows(self) -> NDArray[np.int64]:
        """Pictures whose structures are shown and measured: those never trained on, if any."""
        return self.test_rows if len(self.test_rows) > 1 else self.train_rows

    @torch.no_grad()
    def generate(self, rows: NDArray[np.int64], noise: Tensor) -> Tensor:
        """Pictures of the averaged generator with the structures of some of the data's: (n, 3, size, size)."""
        self.average.eval()
        device, parts = self.accelerator.device, []
        for n in range(0, len(rows), self.config.batch):
            piece = rows[n : n + self.config.batch]
            edges = self.draw(self.keypoints[0, piece].to(device))
            classes = torch.from_numpy(self.classes[piece]).to(device)
            parts.append(self.average(edges, noise[n : n + len(piece)].to(device), classes))
        return torch.cat(parts)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Re-detected against asked-for keypoints in per cent of the side, variety, and what real pictures score."""
        dice = torch.Generator().manual_seed(0)
        rows = np.resize(self.shown_rows, MEASURED)
        images, others = (
            self.generate(rows, torch.randn(MEASURED, self.config.model.latent, generator=dice)) for _ in range(2)
        )
        asked = self.keypoints[0, rows]
        found = self.stage_one.keypoints(images).cpu()
        apart = np.random.default_rng(0).permutation(len(self.shown_rows))[: MEASURED // 2]
        order = np.resize(self.shown_rows[apart], MEASURED)
        other = np.resize(np.roll(self.shown_rows[apart], 1), MEASURED)
        same_class = self.classes[order] == self.classes[other]
        real, real_other = (to_network(torch.from_numpy(self.data.images[r]), images.device) for r in (order, other))
        distance = (self.keypoints[0, order] - self.keypoints[0, other]).norm(dim=2).mean(1)[same_class]
        return {
            "structure_error": (found - asked).norm(dim=2).mean().item() * 50,
            "random_structure_error": distance.mean().item() * 50,
            "variety": difference(images, others).item(),
            "real_variety": difference(real, real_other).item(),
        }

    @torch.no_grad()
    def sample_picture(self) -> NDArray[np.uint8]:
        """A structure a row, an appearance a column, after the real picture and its edge map."""
        config = self.config.model
        by_class = [self.shown_rows[self.classes[self.shown_rows] == c] for c in range(len(config.classes))]
        by_class = [rows for rows in by_class if len(rows)]
        picked = [by_class[n % len(by_class)] for n in range(ROWS)]
        rows = np.array([r[(n * len(r)) // ROWS] for n, r in enumerate(picked)])
        noise = torch.randn(COLUMNS, config.latent, generator=torch.Generator().manual_seed(1))
        images = self.generate(rows.repeat(COLUMNS), noise.repeat(ROWS, 1))
        edges = self.draw(self.keypoints[0, rows].to(images.device))
        edges = F.interpolate(edges, size=(config.size, config.size), mode="bilinear", align_corners=True)[:, 0]
        factor = max(1, 128 // config.size)
        pictures = [draw.to_image(i) for i in images.permute(0, 2, 3, 1).cpu().numpy()]
        return draw.grid([
            [
                draw.enlarged(image, factor)
                for image in (
                    self.data.images[row], draw.edge_map_image(edges[n].cpu().numpy()),
                    *pictures[n * COLUMNS : (n + 1) * COLUMNS],
                )
            ]
            for n, row in enumerate(rows)
        ])  # fmt: skip

    def data_state(self) -> str:
        """How many pictures there are, of which classes."""
        return f"{len(self.data)} pictures of {', '.join(self.config.model.classes)}"

    def describe(self) -> list[str]:
        """Pictures, classes, sizes, device."""
        config = self.config
        counts = np.bincount(self.classes, minlength=len(config.model.classes))
        kinds = ", ".join(f"{count} {name}" for name, count in zip(config.model.classes, counts, strict=True))
        sizes = [sum(p.numel() for p in m.parameters()) / 1e6 for m in (self.raw, self.raw_discriminator)]
        return [
            *(f"skipped {name}: {reason}" for name, reason in self.data.skipped.items()),
            f"{len(self.data)} pictures of {config.model.size} px ({kinds}), {len(self.test_rows)} kept for testing; "
            f"{config.model.keypoints} keypoints, generator of {sizes[0]:.2f} M parameters, discriminator of "
            f"{sizes[1]:.2f} M; "
            f"{self.accelerator.device}, precision {self.accelerator.mixed_precision}",
        ]


def known_generator(config: GanTrainConfig, stage_one: AutoLink) -> Generator | None:
    """The generator of --start-from, if that is given and the run is not one that is gone on with.

    Raises:
        UserError: it is no checkpoint of a GAN, has other options, or was trained with another stage one.
    """
    if not config.start_from or config.resume:
        return None
    known = Gan.from_pretrained(config.start_from).generator
    shape = [field.name for field in fields(known.config) if field.name != "classes"]
    check_same_shape(config.start_from, known.config, config.model, shape)
    try:
        Gan(stage_one, known)
    except UserError as error:
        raise UserError(f"--start-from {config.start_from}: {error}") from None
    return known


def take_over(generator: Generator, known: Generator) -> None:
    """Give a generator the weights of another; classes that the other does not know begin anew."""
    names = generator.embedding.weight.detach()
    for n, name in enumerate(generator.config.classes):
        if name in known.config.classes:
            names[n] = known.name.weight[known.config.classes.index(name)]
    generator.load_state_dict(known.state_dict() | {"name.weight": names})


def run(arguments: list[str]) -> None:
    """The command: read options, train, say where the result is."""
    config = parse_config(arguments)
    stage_one = AutoLink.from_pretrained(config.stage_one)
    check_data(config.data, config.root)
    classes = data_classes(config.data, config.root)
    model = replace(config.model, keypoints=stage_one.config.keypoints, classes=classes)
    config = replace(config, model=model)
    known = known_generator(config, stage_one)

    def build(accelerator: Accelerator, cache: Path | None) -> GanTrainer:
        with accelerator.main_process_first():
            data = load_data(config.data, model.size, stage_one.config.fit, cache, root=config.root)
        return GanTrainer(config, accelerator, stage_one, data, known)

    start(config, "accelerate launch generation/train_gan.py", build)


def main() -> None:
    """Entry point of `accelerate launch generation/train_gan.py`."""
    command(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
