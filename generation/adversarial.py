"""What trainings against a discriminator share: its optimiser, its step, and what a resumed run needs of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Generic, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from autolink.errors import UsageError
from autolink.run_state import load_module_tensors, load_optimizer_tensors, module_tensors, optimizer_tensors
from autolink.trainer import BaseTrainer, Config, Network

Critic = TypeVar("Critic", bound=nn.Module)

BETAS = (0.0, 0.99)
"""AdamW's of a discriminator, without momentum: the other side moves as well."""


class AdversarialTrainer(BaseTrainer[Config, Network], Generic[Config, Network, Critic]):
    """A network and a discriminator, each with an optimiser of its own.

    Where batches are accumulated, both step after the last: all batches are judged by the same discriminator.
    """

    discriminator_share: ClassVar[float] = 1.0
    """Its learning rate, over the network's."""

    def __init__(self, config: Config, accelerator: Accelerator, network: Network, discriminator: Critic) -> None:
        if accelerator.mixed_precision == "fp16" and accelerator.gradient_accumulation_steps > 1:
            raise UsageError(
                "--gradient-accumulation-steps cannot be had with --precision fp16 here, where two "
                "networks share the scale of the gradient; use bf16 or no"
            )
        super().__init__(config, accelerator, network)
        optimizer = torch.optim.AdamW(
            [{"params": list(discriminator.parameters()), "share": self.discriminator_share}],
            lr=config.learning_rate, betas=BETAS, weight_decay=0.0,
        )  # fmt: skip
        self.discriminator, self.discriminator_optimizer = accelerator.prepare(discriminator, optimizer)
        self.raw_discriminator = discriminator
        self.learners.append(self.discriminator)

    @contextmanager
    def fixed_discriminator(self) -> Iterator[Critic]:
        """The discriminator as the network's loss needs it: gradients pass through it, but do not stay."""
        self.raw_discriminator.requires_grad_(False)
        yield self.raw_discriminator
        self.raw_discriminator.requires_grad_(True)

    def update_discriminator(self, loss: Tensor) -> None:
        """Its backward pass and, once all batches of the step are in, its step."""
        self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:
            self.take_step(self.discriminator_optimizer)

    def tensors(self) -> dict[str, Tensor]:
        """Discriminator too."""
        return (
            super().tensors()
            | module_tensors("discriminator", self.raw_discriminator)
            | optimizer_tensors("discriminator_optimizer", self.discriminator_optimizer)
        )

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        super().load_tensors(tensors)
        load_module_tensors("discriminator", self.raw_discriminator, tensors)
        load_optimizer_tensors("discriminator_optimizer", self.discriminator_optimizer, tensors)
