"""What every training here has: a network, its average, its optimiser, and how they are saved and gone on with."""

import copy
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from autolink.config import RunConfig
from autolink.errors import UserError
from autolink.run_state import (
    RunFolder,
    load_module_tensors,
    load_optimizer_tensors,
    module_tensors,
    optimizer_tensors,
)  # fmt: skip

Network = TypeVar("Network", bound=nn.Module)


def learning_rate(config: RunConfig, step: int) -> float:
    """Constant after a short warm-up, then linearly to zero over the last `decay_share` of the steps."""
    warm_up = min(1.0, (step + 1) / 50)
    decay = config.decay_share * config.steps
    return config.learning_rate * min(warm_up, (config.steps - step) / decay if decay else 1.0)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average of weights and statistics, quicker in the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


class BaseTrainer(ABC, Generic[Network]):
    """A network, its average and its optimizer on the Accelerator's device; what is learned is left to the child."""

    betas = (0.9, 0.99)
    """AdamW's, of the network's optimiser."""

    def __init__(self, config: RunConfig, accelerator: Accelerator, network: Network) -> None:
        self.config, self.accelerator = config, accelerator
        self.average: Network = copy.deepcopy(network).to(accelerator.device).requires_grad_(False)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=self.betas
        )
        self.model, self.optimizer = accelerator.prepare(network, optimizer)
        self.raw = network
        self.step = 0

    @abstractmethod
    def train_step(self) -> Tensor:
        """One optimiser step; the loss, not yet fetched from the device."""

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """Figures of the averaged network on what it was not trained on; the first one is shown beside the bar."""

    @abstractmethod
    def sample_picture(self) -> NDArray[np.uint8]:
        """What the averaged network makes of a few samples, for a person to judge."""

    @abstractmethod
    def save_model(self, folder: Path) -> None:
        """Write the averaged network as other commands want it."""

    @abstractmethod
    def describe(self) -> list[str]:
        """Lines that tell what was found before the first step."""

    @abstractmethod
    def data_state(self) -> str:
        """A few words on the data that change when it does, so that --resume does not go on with other data."""

    def scalars(self) -> dict[str, float]:
        """Further values for the log."""
        return {}

    def update(self, loss: Tensor) -> None:
        """Backward pass, clipped step and average."""
        config, accelerator = self.config, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        self.optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        update_average(self.average, self.raw, config.ema, self.step)
        self.step += 1

    def tensors(self) -> dict[str, Tensor]:
        """Everything a resumed run needs."""
        return (
            module_tensors("model", self.raw)
            | module_tensors("average", self.average)
            | optimizer_tensors("optimizer", self.optimizer)
        )

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        load_module_tensors("model", self.raw, tensors)
        load_module_tensors("average", self.average, tensors)
        load_optimizer_tensors("optimizer", self.optimizer, tensors)

    def check_finite(self, folder: RunFolder) -> None:
        """Stop before anything good is replaced.

        Raises:
            UserError: a weight is not finite.
        """
        if not all(tensor.isfinite().all() for tensor in self.tensors().values()):
            raise diverged(self.step, folder)

    def save(self, folder: RunFolder) -> None:
        """Write a checkpoint to go on from, and the averaged model."""
        if not self.accelerator.is_main_process:
            return
        self.check_finite(folder)
        tensors, scaler = self.tensors(), self.accelerator.scaler
        state = {"scaler": scaler.state_dict() if scaler else None, "data": self.data_state()}
        folder.save_checkpoint(self.step, tensors, state)
        self.save_model(folder.path / "model")

    def load(self, folder: RunFolder) -> None:
        """Go on from the newest checkpoint."""
        tensors, state = folder.load_checkpoint()
        if state.get("data", self.data_state()) != self.data_state():
            raise UserError(
                f"--data {self.config.data} has changed since this run was saved: {state['data']} then, "
                f"{self.data_state()} now; restore it, or start another run with another --out"
            )
        self.load_tensors(tensors)
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]


def diverged(step: int, folder: RunFolder) -> UserError:
    """What to say when the loss or a weight is not finite."""
    back = "go on from the last checkpoint with --resume, or " if folder.checkpoints() else ""
    return UserError(f"training diverged by step {step}: {back}start again with a lower --learning-rate")
