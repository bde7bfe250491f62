"""Adapting a translator to one source before a transfer."""

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from tqdm import tqdm

from autolink.device import pick_precision
from autolink.generation.pairs import Views
from autolink.generation.train_transfer import TransferTrainConfig, TransferTrainer
from autolink.generation.translator import PoseTransfer, Translator


def finetuned(model: PoseTransfer, pictures: NDArray[np.uint8], steps: int, device: torch.device) -> Translator:
    """A translator trained on from the given one, on the frames of one source alone.

    Args:
        model: stage one and translator; not changed.
        pictures: (n, size, size, 3), RGB, the source's crops; a single one is bent against itself.
        steps: optimiser steps.
        device: where to compute.
    """
    translator = model.translator
    config = TransferTrainConfig(
        steps=steps, batch=4, learning_rate=2e-4, decay_share=0.5, ema=0.99, adversarial_weight=0.0, flip=False,
        feature_size=max(64, translator.config.size), model=translator.config,
    )  # fmt: skip
    accelerator = Accelerator(mixed_precision=pick_precision(config.precision), cpu=device.type == "cpu")
    n = len(pictures)
    views = Views(pictures, np.zeros(1, np.int64), np.full(1, n), np.zeros(1, bool), {})
    trainer = TransferTrainer(config, accelerator, model.stage_one, views)
    for network in (trainer.raw, trainer.average):
        network.load_state_dict(translator.state_dict())
    trainer.model.eval()  # four frames of one subject would spoil the normalisations' statistics
    for _ in tqdm(range(steps), unit="step", desc="adapting"):
        trainer.train_step()
    return trainer.average.to(device).eval()
