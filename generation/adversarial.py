"""What trainings against a discriminator share: its optimiser, its step, and what a resumed run needs of it."""

from typing import Generic, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from autolink.config import RunConfig
from autolink.run_state import load_module_tensors, load_optimizer_tensors, module_tensors, optimizer_tensors
from autolink.trainer import BaseTrainer, Network, learning_rate

Critic = TypeVar("Critic", bound=nn.Module)

BETAS = (0.0, 0.99)
"""AdamW's of a discriminator, without momentum: the other side moves as well."""


class AdversarialTrainer(BaseTrainer[Network], Generic[Network, Critic]):
    """A network and a discriminator, each with an optimiser of its own and the same learning rate."""

    def __init__(self, config: RunConfig, accelerator: Accelerator, network: Network, discriminator: Critic) -> None:
        super().__init__(config, accelerator, network)
        optimizer = torch.optim.AdamW(
            discriminator.parameters(), lr=config.learning_rate, betas=BETAS, weight_decay=0.0
        )
        self.discriminator, self.discriminator_optimizer = accelerator.prepare(discriminator, optimizer)
        self.raw_discriminator = discriminator

    def step_discriminator(self, loss: Tensor) -> None:
        """Its backward pass and step, with the learning rate that the network's step had."""
        for group in self.discriminator_optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step - 1)
        self.discriminator_optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.discriminator_optimizer.step()

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
