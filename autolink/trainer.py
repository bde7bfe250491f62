"""What every training here has: a network, its average, its optimiser, and how they are saved and resumed."""

import copy
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from autolink.errors import UserError
from autolink.layers import synchronise_batch_norm
from autolink.run_config import RunConfig
from autolink.run_state import (
    WRONG,
    RunFolder,
    load_module_tensors,
    load_optimizer_tensors,
    module_tensors,
    optimizer_tensors,
)  # fmt: skip

Config = TypeVar("Config", bound=RunConfig)
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


class BaseTrainer(ABC, Generic[Config, Network]):
    """A network, its average and its optimizer on the Accelerator's device; what is learned is left to the child."""

    betas = (0.9, 0.99)
    """AdamW's, of the network's optimiser."""

    def __init__(self, config: Config, accelerator: Accelerator, network: Network) -> None:
        self.config, self.accelerator = config, accelerator
        self.average: Network = copy.deepcopy(network).to(accelerator.device).requires_grad_(False)
        if accelerator.num_processes > 1:
            synchronise_batch_norm(network, accelerator.device)
        optimizer = torch.optim.AdamW(
            self.parameter_groups(network), lr=config.learning_rate, weight_decay=config.weight_decay, betas=self.betas
        )
        self.model, self.optimizer = accelerator.prepare(network, optimizer)
        self.raw = network
        self.learners: list[nn.Module] = [self.model]
        self.step = 0

    def parameter_groups(self, network: Network) -> list[dict[str, Any]]:
        """What AdamW learns; a group's `share` is its part of the learning rate."""
        return [{"params": list(network.parameters())}]

    @abstractmethod
    def train_batch(self, shard: int) -> Tensor:
        """Train on one batch, sampled by seed, step and shard; the loss, left on the device."""

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """Metrics of the averaged network on held-out data; the first one is shown beside the progress bar."""

    @abstractmethod
    def sample_picture(self) -> NDArray[np.uint8]:
        """What the averaged network makes of a few samples, for a person to judge."""

    @abstractmethod
    def save_model(self, folder: Path) -> None:
        """Write the averaged network as other commands want it."""

    @abstractmethod
    def describe(self) -> list[str]:
        """Lines on data and model, printed before the first step."""

    @abstractmethod
    def data_state(self) -> str:
        """A short description that changes with the data, so that --resume refuses other data."""

    def phases(self) -> list[int]:
        """The steps from which on a step costs more or less than before, the first one included."""
        return [0]

    def scalars(self) -> dict[str, float]:
        """Further values for the log."""
        return {}

    def train_step(self) -> Tensor:
        """One optimiser step from all batches that are accumulated for it; their mean loss, left on the device.

        A batch accumulated here is the one that another process would draw: two batches on one process give the same
        gradient as one each on two, but for what is normalised within a batch.
        """
        accelerator, losses = self.accelerator, []
        for part in range(accelerator.gradient_accumulation_steps):
            with accelerator.accumulate(*self.learners):
                losses.append(self.train_batch(part * accelerator.num_processes + accelerator.process_index))
        self.step += 1
        return torch.stack(losses).mean()

    def next_batch(self, shard: int) -> tuple[int, int]:
        """Step and shard of the batch that this process trains on after that of a shard."""
        accelerator = self.accelerator
        if shard + accelerator.num_processes < accelerator.num_processes * accelerator.gradient_accumulation_steps:
            return self.step, shard + accelerator.num_processes
        return self.step + 1, accelerator.process_index

    def update(self, loss: Tensor) -> None:
        """Backward pass and, once all batches of the step are in, clipped step and average."""
        config, accelerator = self.config, self.accelerator
        accelerator.backward(loss)
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(self.model.parameters(), config.clip)
            self.take_step(self.optimizer)
            update_average(self.average, self.raw, config.ema, self.step)

    def take_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Move the weights at the learning rate of this step, and forget the gradient."""
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step) * group.get("share", 1.0)
        optimizer.step()
        optimizer.zero_grad()

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
        """Write a checkpoint to resume from, and the averaged model."""
        if not self.accelerator.is_main_process:
            return
        self.check_finite(folder)
        folder.save_checkpoint(self.step, self.tensors(), self.state())
        self.save_model(folder.path / "model")

    def state(self) -> dict[str, Any]:
        """What a checkpoint says beside its tensors."""
        accelerator = self.accelerator
        return {
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
            "data": self.data_state(),
            "processes": accelerator.num_processes,
            "accumulated": accelerator.gradient_accumulation_steps,
        }

    def load(self, folder: RunFolder) -> None:
        """Resume from the newest checkpoint.

        Raises:
            UserError: there is none, it is damaged, or data, processes or accumulated batches are others than when it
                was saved.
        """
        tensors, state = folder.load_checkpoint()
        self.check_same_start(state)
        try:
            self.restore(tensors, state)
        except torch.OutOfMemoryError:  # a RuntimeError
            raise
        except (RuntimeError, *WRONG) as error:
            raise folder.damaged(" ".join(str(error).split())[:200]) from None
        self.step = state["step"]

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """The inverse of `tensors` and `state`."""
        self.load_tensors(tensors)
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def check_same_start(self, state: dict[str, Any]) -> None:
        """Refuse to resume where the next batches would not be those of an uninterrupted run.

        Raises:
            UserError: what has changed.
        """
        now = self.state()
        then = now | state  # checkpoints of earlier versions say less
        if then["data"] != now["data"]:
            raise UserError(
                f"--data {self.config.data} has changed since this run was saved: {then['data']} then, {now['data']} "
                "now; restore it, or start another run with another --out"
            )
        for key, option in (("processes", "--num_processes"), ("accumulated", "--gradient-accumulation-steps")):
            if then[key] != now[key]:
                raise UserError(
                    f"--resume: this run was saved with {option} {then[key]}, this launch has {now[key]}; launch it as "
                    "before, or start another run with another --out"
                )


def diverged(step: int, folder: RunFolder) -> UserError:
    """What to say when the loss or a weight is not finite."""
    back = "resume from the last checkpoint with --resume, or " if folder.checkpoints() else ""
    return UserError(f"training diverged by step {step}: {back}start again with a lower --learning-rate")
