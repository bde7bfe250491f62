"""Options that every training has, in the groups of --help.

A run's configuration is one flat dataclass; the groups are its base classes.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from autolink.perceptual import FeatureNetwork

SMALLEST_FEATURE_SIZE = 16
"""The feature networks halve the resolution four times."""


@dataclass(frozen=True)
class Options:
    """A group of options."""

    title: ClassVar[str]

    def check(self) -> None:
        """Refuse values that cannot be.

        Raises:
            ValueError: the option, what is allowed, and what it is.
        """

    def at_least(self, low: float, names: Collection[str]) -> None:
        """Refuse numbers below a limit, or so large that nothing can hold them."""
        for name in names:
            if not low <= getattr(self, name) < 2**63:
                raise ValueError(f"{option(name)} must be at least {low} and finite, got {getattr(self, name)}")

    def above_zero(self, names: Collection[str]) -> None:
        """Refuse numbers that are not positive and finite."""
        for name in names:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{option(name)} must be above zero and finite, got {getattr(self, name)}")

    def share(self, names: Collection[str]) -> None:
        """Refuse numbers outside [0, 1]."""
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{option(name)} must be in [0, 1], got {getattr(self, name)}")


def option(name: str) -> str:
    """How a field is called on the command line."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class DataOptions(Options):
    """Training data."""

    title = "data"

    preset: str = ""
    """Where the defaults come from; see above."""
    data: str = ""
    """What to train on."""


@dataclass(frozen=True)
class PerceptualOptions(Options):
    """What is minimised."""

    title = "loss"

    features: FeatureNetwork = "efficientnet-lite0"
    """Feature network of the perceptual loss; vgg16 is the paper's and is downloaded once."""
    feature_size: int = 128
    """Pictures are resized to this before the feature network."""
    feature_weights: Path | None = None
    """File with the weights of vgg16, to do without the download."""
    pixel_weight: float = 0.5
    """Weight of the L1 distance of pixels beside the perceptual loss."""

    def check(self) -> None:
        """Sizes and weights."""
        self.at_least(SMALLEST_FEATURE_SIZE, ["feature_size"])
        self.at_least(0, ["pixel_weight"])


@dataclass(frozen=True)
class OptimiserOptions(Options):
    """How the weights are learned."""

    title = "optimiser"

    steps: int = 1700
    """Optimiser steps in all."""
    minutes: float = 0.0
    """Train for about so many minutes: as many steps as measuring a few of them says; 0 leaves --steps as it is."""
    batch: int = 32
    """Pictures of a batch; every process has one."""
    gradient_accumulation_steps: int = 1
    """Batches of a step and process. (accelerate launch passes an option of this name on to DeepSpeed alone.)"""
    learning_rate: float = 1e-3
    """AdamW's learning rate until the decay begins."""
    decay_share: float = 0.4
    """The learning rate falls linearly to zero over this last share of the steps; 0 keeps it constant."""
    weight_decay: float = 1e-3
    """AdamW's weight decay."""
    clip: float = 1.0
    """Largest norm of the gradient; beyond, it is scaled down."""
    ema: float = 0.995
    """Decay of the averaged weights, which are the ones saved and shown."""
    seed: int = 0
    """Seed of everything random."""

    def check(self) -> None:
        """Counts, rates and shares."""
        self.at_least(1, ["steps", "batch", "gradient_accumulation_steps"])
        self.above_zero(["learning_rate", "clip"])
        self.at_least(0, ["minutes", "weight_decay", "seed"])
        self.share(["decay_share"])
        if not 0 <= self.ema < 1:
            raise ValueError(f"--ema must be in [0, 1), got {self.ema}")


@dataclass(frozen=True)
class ComputeOptions(Options):
    """How it is computed; processes, devices and accumulation are accelerate launch's."""

    title = "compute"

    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Mixed precision; auto is accelerate launch's --mixed_precision, else bf16 where the machine is fast at it."""
    threads: int = 0
    """CPU threads of a process; 0 shares the cores that this run may use among its processes."""

    def check(self) -> None:
        """Counts."""
        self.at_least(0, ["threads"])


@dataclass(frozen=True)
class LoggingOptions(Options):
    """What is written as it goes."""

    title = "logging"

    log_every: int = 20
    """Steps between two lines of metrics.jsonl."""
    log_with: Literal["tensorboard", "wandb", "none"] = "tensorboard"
    """Where these lines go besides: tensorboard/ in the run folder, or Weights & Biases."""
    sample_minutes: float = 2.0
    """Minutes between two sample pictures and measurements."""
    save_minutes: float = 5.0
    """Minutes between two checkpoints."""

    def check(self) -> None:
        """Counts and times."""
        self.at_least(1, ["log_every"])
        self.above_zero(["sample_minutes", "save_minutes"])


@dataclass(frozen=True)
class FolderOptions(Options):
    """Where the run is kept, and what to do with one that is there."""

    title = "run"

    out: Path | None = None
    """Run folder; named after the preset in runs/ if left out."""
    resume: bool = False
    """Resume the run in --out from its newest checkpoint, with its own configuration."""
    overwrite: bool = False
    """Delete the run in --out and start from step 0."""
    dry_run: bool = False
    """Print configuration, data, size and a time estimate, and stop."""


@dataclass(frozen=True)
class RunConfig(DataOptions, OptimiserOptions, ComputeOptions, LoggingOptions, FolderOptions):
    """Options that every training has."""

    def __post_init__(self) -> None:
        for group in type(self).__mro__:
            if issubclass(group, Options) and "check" in vars(group):
                group.check(self)

    @property
    def run_folder(self) -> Path:
        """Where the run writes."""
        return self.out or Path("runs") / self.preset


GROUPS = ("data", "model", "loss", "optimiser", "compute", "logging", "run")
"""The groups of options in the order of --help."""


def option_groups(kind: type[RunConfig]) -> dict[str, type[Options]]:
    """The groups that a configuration is made of, by title; where one extends another, the extended one."""
    bases = [base for base in reversed(kind.__mro__) if issubclass(base, Options) and not issubclass(base, RunConfig)]
    groups = {base.title: base for base in bases if base is not Options}
    return {title: groups[title] for title in GROUPS if title in groups}
