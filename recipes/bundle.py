"""Store a trained model like those that come with AutoLink: python -m recipes.bundle runs/mine/model DIR."""

import sys

from autolink import AutoLink, Gan, PoseTransfer
from autolink.checkpoints import Pretrained, find_checkpoint, kind_of
from autolink.errors import UsageError, command
from autolink.eval.judge_model import Judge

KINDS: dict[str, type[Pretrained]] = {"autolink": AutoLink, "transfer": PoseTransfer, "gan": Gan, "judge": Judge}


def main() -> None:
    """Weights in 16 bits; a model card that is there is kept."""
    if len(sys.argv) != 3:
        raise UsageError("give a trained model and the folder for it: runs/mine/model checkpoints/mine")
    trained, out = sys.argv[1:]
    folder = find_checkpoint(trained)
    KINDS[kind_of(folder)].from_folder(folder).save_pretrained(out, half=True)


if __name__ == "__main__":
    command(main)
