"""Store a trained model like those that come with AutoLink: python -m recipes.bundle runs/mine/model DIR."""

import json
import sys
from pathlib import Path

from autolink import AutoLink, Gan, PoseTransfer
from autolink.checkpoints import Pretrained, bundled, find_checkpoint, kind_of
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
    if (Path(out) / "stage_one").is_dir():
        store_once(Path(out) / "stage_one")


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
