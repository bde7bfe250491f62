"""Store a trained model like those that come with AutoLink: python -m recipes.bundle runs/mine/model DIR.

Behind them may stand other models of one training, each with its share of the weights; the rest is the first one's.
What lies between the model that a training started from and what came of it may be better than both (Wortsman et al.,
2022).
"""

import json
import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from autolink import AutoLink, Gan, PoseTransfer
from autolink.checkpoints import Pretrained, bundled, find_checkpoint, kind_of
from autolink.errors import UsageError, command
from autolink.eval.judge_model import Judge

KINDS: dict[str, type[Pretrained]] = {"autolink": AutoLink, "transfer": PoseTransfer, "gan": Gan, "judge": Judge}


def main() -> None:
    """Weights in 16 bits; a model card that is there is kept."""
    if len(sys.argv) < 3 or len(sys.argv) % 2 == 0:
        raise UsageError(
            "give a trained model and the folder for it: runs/mine/model checkpoints/mine; behind them other models, "
            "each with its share of the weights: runs/former/model 0.3"
        )
    trained, out, *others = sys.argv[1:]
    model = load(trained)
    mix(model, [(load(name), share) for name, share in zip(others[::2], others[1::2], strict=True)])
    model.save_pretrained(out, half=True)
    if (Path(out) / "stage_one").is_dir():
        store_once(Path(out) / "stage_one")


def load(name: str) -> Pretrained:
    """A checkpoint of any kind."""
    folder = find_checkpoint(name)
    return KINDS[kind_of(folder)].from_folder(folder)


@torch.no_grad()
def mix(model: Pretrained, others: list[tuple[Pretrained, str]]) -> None:
    """Give other models their share of the weights.

    Raises:
        UsageError: the shares are none, or a model has other weights.
    """
    try:
        shares = [float(share) for _, share in others]
    except ValueError:
        shares = [math.nan]
    if not all(share > 0 for share in shares) or not sum(shares) < 1:
        raise UsageError(f"shares are above 0 and together below 1, got {' '.join(share for _, share in others)}")
    weights, *known = (learned(one) for one in (model, *(other for other, _ in others)))
    if any({n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in one.items()} for one in known):
        raise UsageError("a model has other weights than the first; give those of one training")
    for name, weight in weights.items():
        weight.copy_(weight + sum(share * (one[name] - weight) for share, one in zip(shares, known, strict=True)))


def learned(model: Pretrained) -> dict[str, Tensor]:
    """Parameters and what was averaged over pictures, by name; not the structures that a GAN remembers."""
    remembered = ("graph", "structures", "structure_classes")
    tensors = model.state_dict()
    return {n: t for n, t in tensors.items() if t.is_floating_point() and n.rpartition(".")[2] not in remembered}


def store_once(folder: Path) -> None:
    """Leave the weights of a stage one out that also comes with AutoLink by itself; as `stored` finds it."""
    files = [folder / name for name in ("config.json", "model.safetensors")]
    for name, known in bundled("autolink").items():
        if all(file.read_bytes() == (known / file.name).read_bytes() for file in files):
            files[1].unlink()
            files[0].write_text(json.dumps({"model_type": "autolink", "same_as": name}, indent=2) + "\n")
            return


if __name__ == "__main__":
    command(main)
